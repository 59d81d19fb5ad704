"""What is measured of this machine, written down figure by figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import rates
from benchmarks.large import Size, make_model
from benchmarks.rated_merges import least, python
from benchmarks.rates import FILE, main


def test_figures_that_are_not_asked_for_stay(tmp_path: Path) -> None:
    out = tmp_path / "rates.json"
    before = json.loads(FILE.read_text()) | {"hash": -1.0}
    out.write_text(json.dumps(before))
    assert main(["--data", str(tmp_path), "--out", str(out), "--only", "hash"]) == 0
    after = json.loads(out.read_text())
    assert 0.1 < after["hash"] < 20
    assert {name for name in before if before[name] != after[name]} <= {"hash", "machine", "date", "rank"}
    assert [path.name for path in tmp_path.iterdir()] == ["rates.json"]


def test_what_was_measured_before_a_fault_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(folder: Path) -> float:
        raise OSError("no disk")

    monkeypatch.setattr(rates, "_MEASURES", {"hash": lambda folder: 1.0, "disk": failing})
    with pytest.raises(OSError, match="no disk"):
        main(["--data", str(tmp_path), "--out", str(tmp_path / "rates.json")])
    assert json.loads((tmp_path / "rates.json").read_text())["hash"] == 1.0


def test_a_process_is_measured_with_a_store_of_its_own(tmp_path: Path) -> None:
    code = "import lorapipe.store.paths as p, sys; sys.exit(p.store_root().name != 'store')"
    assert python(tmp_path, "-c", code).cpu > 0


def test_the_least_of_some_tries() -> None:
    tries = iter([3.0, 1.0, 2.0])
    assert least(lambda: next(tries)) == 1.0


def test_figures_in_use_are_of_all_models_and_of_both_sorts_of_data() -> None:
    found = json.loads(FILE.read_text())
    assert {run["hollow"] for run in found["sizes"]} == {True, False}
    assert {(run["engine"], run["workers"]) for run in found["engines"]} == {
        ("threads", 1),
        ("dask", 1),
        ("dask", 2),
    }
    assert all(run["peak"] < 512 << 20 for run in found["sizes"])


def test_sizes_are_named_by_what_they_leave_out(tmp_path: Path) -> None:
    assert make_model(tmp_path, "wan-14b", Size(1, divide=64)).name == "wan-14b-l1-d64-hollow"
    assert str(Size()) == "lall-d1"
