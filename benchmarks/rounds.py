"""Runs: every contestant in turn, round after round, so that a busy minute meets them all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measure import SAID, Failed, Sample, apart, free_memory, measure, warm
from benchmarks.work import Check, Contestant, Setting, Work

__all__ = ["Row", "run_work"]

Row = dict[str, Any]
"""A contestant's results, as JSON keeps them: ``name role note missing samples figures size``."""


def run_work(work: Work, setting: Setting, runs: int, tell: Callable[[str], None]) -> list[Row]:
    """Run a work; a contestant that is missing or fails has a row that says so.

    Before each run the inputs are read once and all writing is waited for; outputs are
    removed after it. Results are checked after the first round.
    """
    rows = [_row(contestant) for contestant in work.contestants]
    for number in range(runs):
        for contestant, row in zip(work.contestants, rows, strict=True):
            if row["missing"]:
                continue
            try:
                sample = _once(contestant, row, work, setting, first=number == 0)
            except Failed as failed:
                row["missing"] = str(failed)
                tell(f"{work.name}: {contestant.name}: {row['missing']}")
                continue
            row["samples"].append(asdict(sample))
            told = f"{sample.wall:.2f} s wall, {sample.cpu:.2f} s CPU, {sample.peak / 2**20:.0f} MiB"
            tell(f"{work.name} {number + 1}/{runs}: {contestant.name}: {told}")
    shutil.rmtree(setting.scratch / work.name, ignore_errors=True)
    return rows


def _row(contestant: Contestant) -> Row:
    return {
        "name": contestant.name,
        "role": contestant.role,
        "note": contestant.note,
        "missing": contestant.missing,
        "samples": [],
        "figures": {},
        "size": contestant.size,
    }


def _once(contestant: Contestant, row: Row, work: Work, setting: Setting, *, first: bool) -> Sample:
    folder = setting.scratch / work.name / "".join(c if c.isalnum() else "-" for c in contestant.name)
    if contestant.needs > (free := free_memory()):
        raise Failed(f"needs {contestant.needs / 2**30:.0f} GiB of memory, {free / 2**30:.0f} were free")
    fresh = first or not contestant.prepare
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in contestant.files.items():
            (folder / name).write_text(text, encoding="utf-8")
    env = {
        name: str(folder / value) if name == "LORAPIPE_STORE" else value
        for name, value in contestant.env.items()
    }
    if contestant.prepare and first:
        measure(contestant.prepare, folder=folder, env=env)
    base = measure(contestant.startup, folder=folder, env=env) if contestant.startup else None
    warm(contestant.inputs or work.inputs)
    sample = measure(contestant.command, folder=folder, env=env)
    if base is not None:
        sample = _whole(sample, base, contestant.scale)
    if contestant.output and contestant.check and first:
        row["figures"] = _figures(folder / contestant.output, contestant.check) | {
            "left": _left(folder, contestant)
        }
    if not contestant.prepare:
        shutil.rmtree(folder)
    os.sync()
    return sample


def _whole(sample: Sample, base: Sample, scale: float) -> Sample:
    """What is above start-up, times ``scale``; never less than was measured. The peak stays the sample's."""
    wall, cpu = (
        max(whole, base_value + scale * (whole - base_value))
        for whole, base_value in ((sample.wall, base.wall), (sample.cpu, base.cpu))
    )
    return Sample(wall, cpu, sample.peak)


def _left(folder: Path, contestant: Contestant) -> int:
    """Bytes on disk that are neither the output nor what we put there: caches, merged copies, stores."""
    ours = {contestant.output, SAID, *contestant.files}
    paths = [path for entry in folder.iterdir() if entry.name not in ours for path in _all(entry)]
    return sum(512 * path.lstat().st_blocks for path in paths)


def _all(path: Path) -> list[Path]:
    return [path, *path.rglob("*")] if path.is_dir() else [path]


def _figures(output: Path, check: Check) -> dict[str, float]:
    if not output.exists():
        raise Failed("it ended well, and there is no output")
    return apart(_checked, output, check)


def _checked(output: Path, check: Check) -> dict[str, float]:
    import benchmarks.check

    found: dict[str, float] = getattr(benchmarks.check, check.function)(output, *check.arguments)
    return found
