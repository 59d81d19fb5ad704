"""The model of n machines: what it says by hand, and how it must bend."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.large import LARGE
from benchmarks.rates import FILE
from benchmarks.scaling import (
    Cluster,
    Job,
    foretold,
    full_from,
    hashing,
    job_of,
    reading,
    seconds,
    sweep_of,
    worker_rate,
)

RATES = json.loads(FILE.read_text(encoding="utf-8"))
JOB = Job(tasks=10, shard=4e9, inputs=40e9, merge=4e-9, hash=0.5e-9, task=1.0, fixed=5.0)
"""A worker of 4 cores makes 1 GB/s of it."""
WIDE = Cluster(1, disk=1e12, cores=4, link=1e12)

jobs = st.builds(
    Job,
    tasks=st.integers(1, 300),
    shard=st.floats(1e6, 1e11),
    inputs=st.floats(1e6, 1e12),
    merge=st.floats(1e-10, 1e-7),
    hash=st.floats(1e-10, 1e-8),
    task=st.floats(0, 10),
    fixed=st.floats(0, 100),
)
disks = st.floats(1e7, 1e12)


@pytest.mark.parametrize(
    ("workers", "disk", "took"),
    [
        (1, 1e12, 5 + 10 * (1 + 4)),
        (2, 1e12, 5 + 5 * (1 + 4)),
        (4, 1e12, 5 + 3 * (1 + 4)),  # 4, 4, 2
        (64, 1e12, 5 + 1 + 4),
        (1, 1e9, 5 + 10 * (1 + 8)),  # each byte goes over the disk twice
        (10, 8e9, 5 + 1 + 10),  # the ten share 4 GB/s
        (8, 8e9, 5 + (1 + 8) + (1 + 4)),  # the last two have room again
    ],
)
def test_what_it_says_can_be_done_by_hand(workers: int, disk: float, took: float) -> None:
    assert seconds(JOB, replace(WIDE, workers=workers, disk=disk)) == pytest.approx(took)


def test_a_worker_is_bounded_by_its_cores_by_one_threads_hashing_and_by_its_link() -> None:
    assert worker_rate(JOB, WIDE, 1) == pytest.approx(1e9)
    assert worker_rate(JOB, replace(WIDE, cores=64), 1) == pytest.approx(2e9)
    assert worker_rate(JOB, replace(WIDE, link=0.3e9), 1) == pytest.approx(0.3e9)


def test_few_threads_on_many_cores_leave_the_hashing_to_the_others() -> None:
    assert worker_rate(JOB, replace(WIDE, threads=1), 1) == pytest.approx(1 / 3.5e-9)
    assert worker_rate(JOB, replace(WIDE, cores=1, threads=1), 1) == pytest.approx(1 / 4e-9)


def test_hashing_is_one_process_whose_thread_link_or_disk_is_the_slowest() -> None:
    assert hashing(JOB, WIDE) == pytest.approx(20)
    assert hashing(JOB, replace(WIDE, link=1e9)) == pytest.approx(40)
    assert hashing(JOB, replace(WIDE, disk=0.5e9)) == pytest.approx(80)


@given(jobs, disks, st.integers(1, 200))
def test_another_worker_never_costs_time(job: Job, disk: float, workers: int) -> None:
    fewer, more = (seconds(job, replace(WIDE, workers=n, disk=disk)) for n in (workers, workers + 1))
    assert more <= fewer * (1 + 1e-9) + 1e-6


@given(jobs, disks, st.integers(1, 500))
def test_nothing_is_faster_than_the_disk_or_than_the_cores(job: Job, disk: float, workers: int) -> None:
    took = seconds(job, replace(WIDE, workers=workers, disk=disk))
    nbytes = job.tasks * job.shard
    assert took >= 2 * nbytes / disk * (1 - 1e-9)
    assert took >= nbytes * job.merge / (WIDE.cores * workers) * (1 - 1e-9)
    assert took >= job.fixed + job.task


@given(jobs, disks)
def test_from_where_the_disk_is_full_workers_share_it(job: Job, disk: float) -> None:
    cluster = replace(WIDE, disk=disk)
    full = full_from(job, cluster)
    alone = worker_rate(job, replace(cluster, disk=math.inf), 1)
    assert full == 1 or (full - 1) * alone * 2 < disk * (1 + 1e-9)
    assert worker_rate(job, cluster, full) == pytest.approx(min(alone, disk / 2 / full))
    assert worker_rate(job, cluster, full + 1) == pytest.approx(disk / 2 / (full + 1), rel=1e-6)


@pytest.mark.parametrize("name", LARGE)
def test_figures_are_those_of_the_models(name: str) -> None:
    model = RATES["models"][name]
    job = job_of(RATES, name)
    assert job.tasks * job.shard == pytest.approx(model["bytes"])
    assert 0 < job.hash < job.merge < 2e-8
    assert model["peak"] < 512 << 20
    assert model["plan"] < 2


def test_a_sweep_has_its_models_shards_for_each_variant_and_hashes_once() -> None:
    one, sweep = job_of(RATES, "qwen-image"), sweep_of(RATES)
    assert sweep.tasks == 24 * one.tasks
    assert sweep.inputs == one.inputs
    assert seconds(sweep, WIDE) > 23 * (seconds(one, WIDE) - one.fixed)


def test_what_is_foretold_of_an_engine_is_its_start_and_its_bytes() -> None:
    begun = {"wall": 3.0, "cpu": 2.0}
    one, two = ({"start": begun, "bytes": 4e9, "workers": n} for n in (1, 2))
    made = job_of(RATES, "wan-14b")
    made = replace(made, merge=made.merge - reading(RATES))
    cores = int(RATES["machine"]["cores"])
    alone = max(made.merge / cores, made.merge - made.hash, made.hash)
    assert foretold(RATES, one) == pytest.approx((3 + 4e9 * alone, 2 + 4e9 * made.merge))
    if cores == 2:
        assert foretold(RATES, two) == pytest.approx((3 + 2e9 * made.merge, 2 + 4e9 * made.merge))


def test_reading_true_bytes_is_dearer_than_reading_holes() -> None:
    runs = [
        {"layers": 4, "hollow": True, "cpu": 5.0, "bytes": 2e9},
        {"layers": 4, "hollow": False, "cpu": 7.0, "bytes": 2e9},
    ]
    assert reading({"sizes": runs}) == pytest.approx(1e-9)
    assert reading({"sizes": [runs[0], {**runs[1], "cpu": 4.9}]}) == 0
    assert job_of(RATES, "wan-14b").merge >= RATES["models"]["wan-14b"]["merge"] / 1e9
