"""The whole harness, on tiny models. What it measures is not looked at: a test has no quiet machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT


def test_a_run_writes_a_page_a_picture_and_the_samples(harness: Path) -> None:
    assert sorted(path.name for path in harness.iterdir()) == ["RESULTS.md", "results.json", "results.svg"]
    page = (harness / "RESULTS.md").read_text()
    assert "rounds: 1" in page
    assert "2001-02-03" in page


def test_lorapipes_results_are_right_by_the_independent_check(harness: Path) -> None:
    works = json.loads((harness / "results.json").read_text())["works"]
    merges = [works[name]["rows"][0] for name in ("sd15-merge", "llama-merge")]
    resize = works["sdxl-resize"]["rows"][0]
    assert all(merge["figures"]["exact"] > 0.9999 for merge in merges)
    assert resize["figures"]["optimum"] < 1.001


def test_every_contestant_has_a_sample_or_a_reason(harness: Path) -> None:
    works = json.loads((harness / "results.json").read_text())["works"]
    rows = [row for section in works.values() for row in section["rows"]]
    assert all(bool(row["samples"]) != bool(row["missing"]) for row in rows)
    kept = {row["name"] for row in rows if row["role"] != "peer" and row["samples"]}
    assert {"lorapipe", "cp + sync", "cp -r + sync", "sha256sum", "hashlib sha256"} <= kept
    by_hand = [row for row in rows if row["name"].startswith(("load_file", "dense"))]
    assert [row["missing"] for row in by_hand] == ["", "", ""]


def test_a_merge_of_folders_leaves_nothing_of_size_behind(harness: Path) -> None:
    rows = json.loads((harness / "results.json").read_text())["works"]["llama-merge"]["rows"]
    ours, by_hand = rows[:2]
    assert 0 < ours["figures"]["left"] < 2**20  # a lock, a journal
    assert by_hand["figures"]["left"] == 0


def test_results_name_no_folder_of_the_machine(harness: Path) -> None:
    for path in harness.iterdir():
        text = path.read_text()
        assert str(harness.parent) not in text
        assert str(ROOT) not in text
        assert str(Path.home()) not in text or Path.home() == Path("/")


def test_nothing_but_data_is_left_behind(harness: Path) -> None:
    assert [path.name for path in (harness.parent / "data").iterdir()] == ["small"]


@pytest.mark.parametrize("arguments", [("--only", "nothing"), ("--runs", "many"), ("--fast",)])
def test_what_it_does_not_know_it_refuses(arguments: tuple[str, ...]) -> None:
    command = (sys.executable, "-m", "benchmarks", *arguments)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: python -m benchmarks" in done.stderr
