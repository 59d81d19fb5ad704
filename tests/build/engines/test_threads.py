"""Work on threads: in order, bounded, stopped at the first error, and with one set of bits."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from lorapipe.build.engines.threads import default_workers, ordered_map, single_threaded_torch


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_come_in_the_order_of_the_items_whichever_ends_first(workers: int) -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    assert list(ordered_map(workers)(slow_first, range(20))) == [i * i for i in range(20)]


def test_only_a_few_items_are_taken_ahead_of_the_consumer() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = ordered_map(2)(lambda item: item, items())
    next(results)

    assert len(taken) <= 5
    results.close()  # type: ignore[attr-defined]  # a generator, which has close


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_is_raised_in_its_items_place_and_ends_the_work(workers: int) -> None:
    started: list[int] = []

    def fail_at_three(item: int) -> int:
        started.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    found = []
    with pytest.raises(ValueError, match="three"):
        found.extend(ordered_map(workers)(fail_at_three, range(1000)))

    assert len(started) < 20
    assert threading.active_count() < 10


def test_each_result_handed_over_is_a_tick() -> None:
    ticks: list[None] = []

    list(ordered_map(2, lambda: ticks.append(None))(str, range(7)))

    assert len(ticks) == 7


def test_torchs_own_settings_are_as_before_after_the_work() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with single_threaded_torch():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


_SAME_BITS = """
import torch
from lorapipe.build.engines.threads import ordered_map, single_threaded_torch

def spectrum(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.svd(torch.randn(300, 300, generator=generator))[0]

with single_threaded_torch():
    alone = list(ordered_map(1)(spectrum, range(6)))
    spread = list(ordered_map(2)(spectrum, range(6)))
assert all(torch.equal(a, b) for a, b in zip(alone, spread)), "bits differ"
"""


def test_lapack_gives_a_worker_the_bits_that_it_gives_the_main_thread() -> None:
    # In a process of its own, where OpenMP may take as many threads as it likes.
    environment = {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4", "MKL_DYNAMIC": "FALSE"}
    subprocess.run([sys.executable, "-c", _SAME_BITS], check=True, env={**_plain(), **environment})


def _plain() -> dict[str, str]:
    import os
    from pathlib import Path

    import lorapipe

    return {**os.environ, "PYTHONPATH": str(Path(lorapipe.__file__).parents[1])}


def test_the_default_is_a_worker_for_each_core_that_the_process_may_use() -> None:
    assert 1 <= default_workers() <= 4096
