"""``python -m benchmarks.scaling``: what a merge costs on n machines, from what one was measured to do.

One shard is one task. A worker with c cores makes, of a model whose merge takes m seconds of CPU for a
byte (reading, adding, rounding, hashing, writing), where hashing alone takes h,

    r = min(c / m, 1 / h, L)    bytes a second,

L being its link, each way: one thread hashes a file, all share the rest. k workers at once share a disk
that moves B bytes a second, and each byte is read once and written once: each makes min(r, B / 2k). Of T
tasks of b bytes, n workers do T // n rounds of n and one of what is left, each round as long as a task:

    start + plan + opening + sum over rounds of (t + b / min(r, B / 2k)) + publish.

Before the first run of all, one process reads the inputs to hash them: size / min(1 / h, L, B). From
n = B / 2r on the disk is full, and more workers take no less time.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.large import LARGE
from benchmarks.rates import FILE

__all__ = [
    "PAGE",
    "Cluster",
    "Job",
    "filled",
    "full_from",
    "hashing",
    "job_of",
    "main",
    "seconds",
    "sweep_of",
    "tables",
    "worker_rate",
]

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"

_CORES = 4
_LINK = 1.25e9
_DISKS = {"1 GB/s": 1e9, "5 GB/s": 5e9, "40 GB/s": 40e9}
_WORKERS = (1, 8, 64)
_RANKS, _STRENGTHS = 4, 6
_BLOCKS = 60
_MARK = "<!-- benchmarks.scaling: {name} -->\n\n"


@dataclass(frozen=True, slots=True)
class Cluster:
    """``workers`` of ``cores`` each, whose ``link`` carries bytes a second each way; ``disk`` is shared."""

    workers: int
    disk: float
    cores: int = _CORES
    link: float = _LINK


@dataclass(frozen=True, slots=True)
class Job:
    """What is made: ``tasks`` of ``shard`` bytes, of inputs of ``inputs`` bytes.

    Seconds of CPU: ``merge`` and ``hash`` a byte, ``before`` on every worker at once. Seconds: ``task``
    beside its bytes, ``fixed`` once.
    """

    tasks: int
    shard: float
    inputs: float
    merge: float
    hash: float
    task: float
    fixed: float
    before: float = 0.0


def job_of(rates: Mapping[str, Any], name: str) -> Job:
    """A LoRA merged into one of the large models."""
    model = rates["models"][name]
    fixed = rates["start"] + model["plan"] + model["opening"] + model["publish"]
    return Job(
        model["shards"],
        model["bytes"] / model["shards"],
        model["bytes"],
        model["merge"] / 1e9,
        rates["hash"] / 1e9,
        model["task"],
        fixed,
    )


def sweep_of(rates: Mapping[str, Any], name: str = "qwen-image") -> Job:
    """A LoRA resized to four ranks, each of them merged into the model at six strengths."""
    one, variants = job_of(rates, name), _RANKS * _STRENGTHS
    return Job(
        one.tasks * variants,
        one.shard,
        one.inputs,
        one.merge,
        one.hash,
        one.task,
        one.fixed + (variants - 1) * rates["models"][name]["publish"],
        before=_RANKS * _BLOCKS * rates["resize"],
    )


def worker_rate(job: Job, cluster: Cluster, at_once: int) -> float:
    """Bytes a second that each of ``at_once`` workers makes."""
    return min(_alone(job, cluster), cluster.disk / (2 * at_once))


def seconds(job: Job, cluster: Cluster) -> float:
    """From the command to the last folder's name, inputs hashed before."""
    rounds, rest = divmod(job.tasks, cluster.workers)
    took = rounds * (job.task + job.shard / worker_rate(job, cluster, cluster.workers))
    if rest:
        took += job.task + job.shard / worker_rate(job, cluster, rest)
    resizing = min(cluster.workers, _RANKS) * cluster.cores
    return job.fixed + job.before / resizing + took


def hashing(job: Job, cluster: Cluster) -> float:
    """Seconds to hash the inputs, the first time."""
    return job.inputs / min(1 / job.hash, cluster.link, cluster.disk)


def _alone(job: Job, cluster: Cluster) -> float:
    return min(cluster.cores / job.merge, 1 / job.hash, cluster.link)


def full_from(job: Job, cluster: Cluster) -> int:
    """The workers that fill the disk."""
    return max(1, math.ceil(cluster.disk / (2 * _alone(job, cluster))))


def tables(rates: Mapping[str, Any]) -> dict[str, str]:
    """The tables of the page, by name."""
    return {"rates": _rates_table(rates), "workers": _workers_table(rates), "machine": _machine(rates)}


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
    )


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
    yield f"{_RANKS * _STRENGTHS} variants of Qwen-Image, {sweep.tasks * sweep.shard / 1e9:.0f} GB", sweep


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
        prog="python -m benchmarks.scaling", description="the tables of docs/scale.md"
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
