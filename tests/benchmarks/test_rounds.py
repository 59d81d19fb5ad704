"""What a run leaves on disk is counted, and nothing that is its output or ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import rounds
from benchmarks.rounds import run_work
from benchmarks.work import Check, Contestant, Setting, Work

Run = Callable[..., float]


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a shell command as a contestant whose output is ``out``: the bytes that it is told to leave."""
    monkeypatch.setattr(rounds, "apart", lambda *_: {"error": 0.0})

    def run(script: str, runs: int = 1) -> float:
        contestant = Contestant(
            "one",
            "peer",
            ("sh", "-ec", script),
            files={"given.txt": "x" * 9000},
            output="out",
            check=Check("none", ()),
        )
        setting = Setting(True, tmp_path, tmp_path, {})
        (row,) = run_work(Work("w", "", (contestant,)), setting, runs, lambda _: None)
        assert not row["missing"], row["missing"]
        assert row["figures"]["error"] == 0
        left_bytes: float = row["figures"]["left"]
        return left_bytes

    return run


WRITE = "head -c 300000 /dev/zero | tr '\\0' 'x' >"


@pytest.mark.parametrize(
    "output", [f"{WRITE} out", f"mkdir -p out/deep; {WRITE} out/deep/a; {WRITE} out/b; echo much"]
)
def test_an_output_what_we_gave_and_what_was_said_are_not_left_behind(left: Run, output: str) -> None:
    assert left(output) == 0


def test_a_cache_counts_whole_however_deep(left: Run) -> None:
    found = left(
        f"{WRITE} out; mkdir -p cache/merged; {WRITE} cache/merged/model; {WRITE} .hidden; {WRITE} out2"
    )
    assert 900_000 <= found <= 960_000


def test_holes_take_no_room(left: Run) -> None:
    assert left(f"{WRITE} out; truncate -s 1G hole") < 2**16


def test_what_a_round_leaves_is_gone_before_the_next(left: Run) -> None:
    assert left(f"test ! -e cache; {WRITE} out; {WRITE} cache", runs=2) < 400_000
