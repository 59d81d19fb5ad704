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
from typing import TYPE_CHECKING, TypeVar

from lorapipe.build.engines.halt import Halt
from lorapipe.weights.each import Each

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "AHEAD",
    "Crew",
    "default_workers",
    "imported",
    "importing",
    "one_thread",
    "ordered_map",
    "single_threaded_torch",
]

A = TypeVar("A")
B = TypeVar("B")

AHEAD = 2
"""Items under way per worker: enough to keep all busy, few enough to bound memory."""


def default_workers() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Crew:
    """``workers`` threads, which all that is done at one time shares, until ``halt`` asks to stop.

    As a context manager it is closed with the context: who leaves it by an error does not wait for
    what is under way, since nothing ends the SVD of a large module, which takes seconds.
    """

    def __init__(self, workers: int, halt: Halt | None = None) -> None:
        self.halt = halt or Halt()
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, "lorapipe", initializer=one_thread)

    def each(self, tick: Callable[[], None] = lambda: None, under_way: int | None = None) -> Each:
        """A ``map`` over the threads: results in the order of the items.

        At most ``under_way`` items, two a thread by default, are at work or wait for the
        consumer, beside the one that it has. ``tick`` is called as each result is handed over.
        An error in an item is raised in its place; who waits for one when all is to stop has
        :class:`~lorapipe.errors.Halted`.
        """
        most = self._workers * AHEAD if under_way is None else under_way

        def each(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
            ahead: deque[Future[B]] = deque()
            try:
                for item in items:
                    ahead.append(self._pool.submit(function, item))
                    if len(ahead) >= most:
                        yield self.halt.result(ahead.popleft())
                        tick()
                while ahead:
                    yield self.halt.result(ahead.popleft())
                    tick()
            finally:
                for begun in ahead:
                    begun.cancel()

        return each

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=kind is not None)


def ordered_map(workers: int, tick: Callable[[], None] = lambda: None) -> Each:
    """:meth:`Crew.each` with threads of its own for each use.

    One worker is a thread, too, so that the main thread hears of Ctrl-C.
    """

    def each(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        with Crew(workers) as crew:
            yield from crew.each(tick)(function, items)

    return each


def one_thread() -> None:
    """Keep a worker to one thread: OpenMP counts threads for each thread that asks anew.

    Set in the main thread alone, LAPACK in the workers took two, and a float32 resize had
    other last bits with two workers than with one.
    """
    import torch

    torch.set_num_threads(1)


def importing(module: str) -> Future[ModuleType]:
    """Begin to import what takes seconds, in a thread of its own."""
    pool = ThreadPoolExecutor(1, "lorapipe-import")
    try:
        return pool.submit(import_module, module)
    finally:
        pool.shutdown(wait=False)


def imported(module: str) -> ModuleType:
    """Import what takes seconds, in a thread of its own: Ctrl-C is then heard at once, and by us.

    In the middle of an import it is heard by whoever is being imported: numpy swallowed it, C++
    in torch ended the process by SIGABRT (once each in a hundred).
    """
    return importing(module).result()


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
