"""What a merge costs on n machines, from what one was measured to do.

One shard is one task. A worker with c cores makes, of a model whose merge takes m seconds of CPU for a
byte (reading, adding, rounding, hashing, writing), where hashing alone takes h,

    r = min(c / m, 1 / h, L)    bytes a second,

L being its link, each way: one thread hashes a file, all share the rest. (With t threads and more cores
than that, also t / (m - h).) k workers at once share a disk
that moves B bytes a second, and each byte is read once and written once: each makes min(r, B / 2k). Of T
tasks of b bytes, n workers do T // n rounds of n and one of what is left, each round as long as a task:

    start + plan + opening + sum over rounds of (t + b / min(r, B / 2k)) + publish.

Before the first run of all, one process reads the inputs to hash them: size / min(1 / h, L, B). From
n = B / 2r on the disk is full, and more workers take no less time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.rated_merges import SIZED

__all__ = [
    "CORES",
    "LINK",
    "RANKS",
    "STRENGTHS",
    "Cluster",
    "Job",
    "foretold",
    "full_from",
    "hashing",
    "job_of",
    "reading",
    "seconds",
    "sweep_of",
    "worker_rate",
]

CORES = 4
LINK = 1.25e9
RANKS, STRENGTHS = 4, 6
"""Of the sweep: a LoRA brought to so many ranks, each merged at so many strengths."""

_BLOCKS = 60


@dataclass(frozen=True, slots=True)
class Cluster:
    """``workers`` of ``cores`` each, whose ``link`` carries bytes a second each way; ``disk`` is shared.

    ``threads`` do the arithmetic of each, one a core unless there are fewer.
    """

    workers: int
    disk: float
    cores: int = CORES
    link: float = LINK
    threads: int | None = None


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


def reading(rates: Mapping[str, Any]) -> float:
    """Seconds of CPU that a byte from the disk costs more than one of a hole, of which the merges were."""
    (true,) = (run for run in rates["sizes"] if not run["hollow"])
    hole = next(run for run in rates["sizes"] if run["hollow"] and run["layers"] == true["layers"])
    return max(0.0, float(true["cpu"] - hole["cpu"])) / float(true["bytes"])


def job_of(rates: Mapping[str, Any], name: str) -> Job:
    """A LoRA merged into one of the large models, of true bytes."""
    model = rates["models"][name]
    fixed = rates["start"] + model["plan"] + model["opening"] + model["publish"]
    return Job(
        model["shards"],
        model["bytes"] / model["shards"],
        model["bytes"],
        model["merge"] / 1e9 + reading(rates),
        rates["hash"] / 1e9,
        model["task"],
        fixed,
    )


def sweep_of(rates: Mapping[str, Any], name: str = "qwen-image") -> Job:
    """A LoRA resized to four ranks, each of them merged into the model at six strengths."""
    one, variants = job_of(rates, name), RANKS * STRENGTHS
    return Job(
        one.tasks * variants,
        one.shard,
        one.inputs,
        one.merge,
        one.hash,
        one.task,
        one.fixed + (variants - 1) * rates["models"][name]["publish"],
        before=RANKS * _BLOCKS * rates["resize"],
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
    resizing = min(cluster.workers, RANKS) * cluster.cores
    return job.fixed + job.before / resizing + took


def hashing(job: Job, cluster: Cluster) -> float:
    """Seconds to hash the inputs, the first time."""
    return job.inputs / min(1 / job.hash, cluster.link, cluster.disk)


def _alone(job: Job, cluster: Cluster) -> float:
    threads = cluster.cores if cluster.threads is None else cluster.threads
    arithmetic = threads / max(job.merge - job.hash, job.merge * 1e-6)
    return min(cluster.cores / job.merge, arithmetic, 1 / job.hash, cluster.link)


def full_from(job: Job, cluster: Cluster) -> int:
    """The workers that fill the disk."""
    return max(1, math.ceil(cluster.disk / (2 * _alone(job, cluster))))


def foretold(rates: Mapping[str, Any], run: Mapping[str, Any]) -> tuple[float, float]:
    """Wall and CPU seconds of a merge by an engine of this machine, from what its start was measured to take.

    Its data are holes.
    """
    whole, cores = job_of(rates, SIZED), int(rates["machine"]["cores"])
    merge = rates["models"][SIZED]["merge"] / 1e9
    shard = run["bytes"] / whole.tasks
    job = replace(whole, shard=shard, merge=merge, task=0.0, fixed=run["start"]["wall"])
    cluster = Cluster(run["workers"], math.inf, cores=cores // run["workers"], link=math.inf, threads=1)
    return seconds(job, cluster), run["start"]["cpu"] + run["bytes"] * job.merge
