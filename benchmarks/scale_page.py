"""``python -m benchmarks.scale_page``: the tables of ``docs/scale.md``, made of what was measured."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.large import LARGE
from benchmarks.rates import FILE
from benchmarks.scaling import (
    RANKS,
    STRENGTHS,
    Cluster,
    Job,
    foretold,
    full_from,
    hashing,
    job_of,
    reading,
    seconds,
    sweep_of,
)

__all__ = ["PAGE", "filled", "main", "tables"]

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"

_DISKS = {"1 GB/s": 1e9, "5 GB/s": 5e9, "40 GB/s": 40e9}
_WORKERS = (1, 8, 64)
_MARK = "<!-- benchmarks.scale_page: {name} -->\n\n"


def tables(rates: Mapping[str, Any]) -> dict[str, str]:
    """The tables of the page, by name."""
    return {
        "rates": _rates_table(rates),
        "machine": _machine(rates),
        "sizes": _sizes_table(rates),
        "workers": _workers_table(rates),
        "engines": _engines_table(rates),
    }


def _rates_table(rates: Mapping[str, Any]) -> str:
    rows = [
        "| | bytes | shards | CPU a GB | CPU of the plan | a task beside its bytes | peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, model in rates["models"].items():
        rows.append(
            f"| {LARGE[name].title} | {model['bytes'] / 1e9:.1f} GB | {model['shards']} |"
            f" {model['merge']:.1f} s | {model['plan']:.1f} s | {model['task']:.2f} s |"
            f" {model['peak'] / 2**20:.0f} MiB |"
        )
    return "\n".join(rows) + "\n"


def _machine(rates: Mapping[str, Any]) -> str:
    machine, disk = rates["machine"], rates["disk"]
    where = f"{machine['CPU']}, {machine['cores']} cores, {machine['disk']}, torch {machine['torch']}"
    return (
        f"Measured on {rates['date']}: {where}; LoRAs of rank {rates['rank']}.\n"
        f"sha256 takes {rates['hash']:.2f} s of CPU a GB, a process's start {rates['start']:.1f} s;"
        f" the disk writes {disk['write'] / 1e9:.1f} GB/s and reads {disk['read'] / 1e9:.1f} GB/s.\n"
        f"These merges read holes; true bytes cost {reading(rates) * 1e9:.1f} s of CPU a GB more,"
        " which the model adds.\n"
    )


def _sizes_table(rates: Mapping[str, Any]) -> str:
    rows = ["| data | size | CPU a GB | wall | MB/s | peak |", "|---|---|---|---|---|---|"]
    for run in rates["sizes"]:
        data = "holes" if run["hollow"] else "true bytes, from the disk"
        nbytes, wall = run["bytes"], run["wall"]
        rows.append(
            f"| {data} | {nbytes / 1e9:.2f} GB | {run['cpu'] * 1e9 / nbytes:.1f} s | {wall:.0f} s |"
            f" {nbytes / 1e6 / wall:.0f} | {run['peak'] / 2**20:.0f} MiB |"
        )
    return "\n".join(rows) + "\n"


def _engines_table(rates: Mapping[str, Any]) -> str:
    rows = [
        "| engine | workers | CPU foretold | CPU | | wall foretold | wall | | load |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in rates["engines"]:
        wall, cpu = foretold(rates, run)
        cells = [f"{said:.1f} s | {took:.1f} s | {100 * (took / said - 1):+.0f} %"
                 for said, took in ((cpu, run["all"]["cpu"]), (wall, run["all"]["wall"]))]  # fmt: skip
        rows.append(f"| {run['engine']} | {run['workers']} | {' | '.join(cells)} | {run['load']:.1f} |")
    return "\n".join(rows) + "\n"


def _workers_table(rates: Mapping[str, Any]) -> str:
    heads = "".join(f" {n} worker{'s' if n > 1 else ''} |" for n in _WORKERS)
    rows = [
        f"| | shared disk | first, hashing |{heads} full from |",
        "|---|---|---|" + "---|" * len(_WORKERS) + "---|",
    ]
    for title, job in _jobs(rates):
        for label, disk in _DISKS.items():
            cells = "".join(f" {_time(seconds(job, Cluster(n, disk)))} |" for n in _WORKERS)
            one = Cluster(1, disk)
            full = full_from(job, one)
            when = (
                f"{full} worker{'s' if full > 1 else ''}"
                if full <= job.tasks
                else f"never: {job.tasks} shards"
            )
            rows.append(f"| {title} | {label} | {_time(hashing(job, one))} |{cells} {when} |")
            title = ""  # noqa: PLW2901  # named once
    return "\n".join(rows) + "\n"


def _jobs(rates: Mapping[str, Any]) -> Iterator[tuple[str, Job]]:
    for name in rates["models"]:
        yield f"{LARGE[name].title}, {rates['models'][name]['bytes'] / 1e9:.0f} GB", job_of(rates, name)
    sweep = sweep_of(rates)
    yield f"{RANKS * STRENGTHS} variants of Qwen-Image, {sweep.tasks * sweep.shard / 1e9:.0f} GB", sweep


def _time(took: float) -> str:
    if took < 100:
        return f"{took:.0f} s"
    minutes = took / 60
    if minutes < 100:
        return f"{minutes:.1f} min" if minutes < 10 else f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h"


def filled(page: str, rates: Mapping[str, Any]) -> str:
    """A page with its tables as the rates make them: each is the block after its mark."""
    for name, table in tables(rates).items():
        mark = _MARK.format(name=name)
        before, _, after = page.partition(mark)
        _, _, rest = after.partition("\n\n")
        page = f"{before}{mark}{table}\n{rest}"
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale_page", description="the tables of docs/scale.md"
    )
    parser.add_argument("--write", action="store_true", help="write them into the page")
    asked = parser.parse_args(arguments)
    rates = json.loads(FILE.read_text(encoding="utf-8"))
    if asked.write:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), rates), encoding="utf-8")
    else:
        sys.stdout.write("\n".join(tables(rates).values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
