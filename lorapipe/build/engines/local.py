"""``threads``, the engine that is used unless another is named: tasks on threads of this process.

A few tasks run at a time, so that one computes while another writes; the items of all of them (a
module, a slab) share the threads of one crew. A task begins when what it is foretold to take
of the memory is free, or when nothing else runs.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from lorapipe.build.engines.engine import Ended
from lorapipe.build.engines.halt import Halt
from lorapipe.build.engines.threads import one_thread
from lorapipe.plan.tasks import Task

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Local"]


class Local:
    """Runs tasks by ``perform``, at most ``at_once`` of them at a time, first those of the lowest ``number``.

    So what is made is used before more is made, whose results would wait in memory. ``need`` foretells the bytes of memory that a task takes, of which ``room`` are free (``None``:
    any number). Leaving it asks those still at work, by ``halt``, to stop, and waits for them.
    """

    def __init__(
        self,
        perform: Callable[[Task], Ended],
        halt: Halt,
        *,
        at_once: int,
        number: Callable[[Task], int],
        need: Callable[[Task], int],
        room: int | None,
    ) -> None:
        self._perform = perform
        self._halt = halt
        self._at_once = at_once
        self._number = number
        self._need = need
        self._room = room
        self._ready: list[Task] = []
        self._running: dict[Future[Ended], Task] = {}
        self._pool = ThreadPoolExecutor(at_once, "lorapipe-task", initializer=one_thread)

    def submit(self, task: Task) -> None:
        self._ready.append(task)
        self._admit()

    def next(self) -> Ended:
        self._admit()  # not before: what the last end made ready may come first
        ended = next(iter(wait(self._running, return_when=FIRST_COMPLETED).done))
        del self._running[ended]
        return ended.result()

    def _admit(self) -> None:
        """Begin those that have room."""
        for task in sorted(self._ready, key=self._number):
            if len(self._running) == self._at_once:
                return
            if not self._running or self._fits(task):
                self._ready.remove(task)
                self._running[self._pool.submit(self._perform, task)] = task

    def _fits(self, task: Task) -> bool:
        if self._room is None:
            return True
        return sum(map(self._need, (task, *self._running.values()))) <= self._room

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A task that is stopped removes its temporary files: that is waited for.
        if self._running or self._ready:
            self._halt.ask()
        self._pool.shutdown(wait=True, cancel_futures=True)
