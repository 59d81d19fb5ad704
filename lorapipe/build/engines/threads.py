"""Work spread over threads, results in order, torch itself kept to one thread.

torch's own threads change the last bits of svd, qr and sums with their number, and
on LoRA-sized matrices they are slower than one thread a tensor: 40 QR + SVD jobs took
2.5 s with two torch threads and 0.18 s with one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TypeVar

from lorapipe.weights.each import Each

__all__ = ["AHEAD", "default_workers", "imported", "ordered_map", "single_threaded_torch"]

A = TypeVar("A")
B = TypeVar("B")

AHEAD = 2
"""Items under way per worker: enough to keep all busy, few enough to bound memory."""


def default_workers() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(workers: int, tick: Callable[[], None] = lambda: None, under_way: int | None = None) -> Each:
    """A ``map`` over ``workers`` threads: results in the order of the items.

    At most ``under_way`` items, two a worker by default, are at work or wait for the
    consumer, beside the one that it has. ``tick`` is called as each result is handed over.
    An error in an item is raised in its place. Who stops, for that or for any other reason, does
    not wait for what is under way: nothing ends the SVD of a large module, which takes seconds.
    One worker is a thread, too, so that the main thread hears of Ctrl-C.
    """
    most = workers * AHEAD if under_way is None else under_way

    def each(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        pool = ThreadPoolExecutor(workers, "lorapipe", initializer=_one_thread)
        ahead: deque[Future[B]] = deque()
        done = False
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) >= most:
                    yield ahead.popleft().result()
                    tick()
            while ahead:
                yield ahead.popleft().result()
                tick()
            done = True
        finally:
            pool.shutdown(wait=done, cancel_futures=True)

    return each


def _one_thread() -> None:
    """Keep a worker to one thread: OpenMP counts threads for each thread that asks anew.

    Set in the main thread alone, LAPACK in the workers took two, and a float32 resize had
    other last bits with two workers than with one.
    """
    import torch

    torch.set_num_threads(1)


def imported(module: str) -> ModuleType:
    """Import what takes seconds, in a thread of its own: Ctrl-C is then heard at once, and by us.

    In the middle of an import it is heard by whoever is being imported: numpy swallowed it, C++
    in torch ended the process by SIGABRT (once each in a hundred).
    """
    pool = ThreadPoolExecutor(1, "lorapipe-import")
    try:
        return pool.submit(import_module, module).result()
    finally:
        pool.shutdown(wait=False)


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """One intra-op thread and no TF32 inside; the process's own settings after it."""
    import torch

    threads = torch.get_num_threads()
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = tf32
