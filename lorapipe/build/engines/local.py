"""``threads``, the engine that is used unless another is named: tasks on threads of this process.

A few tasks run at a time, so that one computes while another writes; the items of all of them (a
module, a slab) share the threads of one crew. A task begins when what it is foretold to take
of the memory is free, or when nothing else runs.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from lorapipe.build.engines.engine import Ended
from lorapipe.build.engines.halt import Halt
from lorapipe.build.engines.threads import one_thread
from lorapipe.plan.tasks import Task

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Local"]

T = TypeVar("T")

_LOOKED_AT = 32
"""Tasks that are ready and of which is asked whether they have room: thousands may wait for memory."""

_LOOK_S = 0.1


class Local:
    """Runs tasks by ``perform``, at most ``at_once`` of them at a time, first those of the lowest ``number``.

    So what is made is used before more is made, whose results would wait in memory. ``need`` foretells
    the bytes of memory that a task takes, of which ``room`` are free (``None``: any number). Leaving
    it asks those still at work, by ``halt``, to stop, and waits for them.
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
        self._running: list[Task] = []
        self._pool = ThreadPoolExecutor(at_once, "lorapipe-task")
        # What the main thread waits for are queues made in C: Ctrl-C in the middle of a condition's or a
        # future's waiting leaves its lock to nobody, and the thread that ends just then failed of it.
        self._ended: SimpleQueue[tuple[Task, Future[Ended]]] = SimpleQueue()
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(at_once):
            self._places.put(None)

    def submit(self, task: Task) -> None:
        insort(self._ready, task, key=self._number)
        self._admit()

    def next(self) -> Ended:
        self._admit()  # not before: what the last end made ready may come first
        task, ended = _awaited(self._ended)
        self._running.remove(task)
        return ended.result()

    def _admit(self) -> None:
        """Begin those that have room."""
        while self._ready and len(self._running) < self._at_once:
            looked_at = islice(self._ready, _LOOKED_AT)
            task = next((each for each in looked_at if not self._running or self._fits(each)), None)
            if task is None:
                return
            self._ready.remove(task)
            self._running.append(task)
            self._pool.submit(self._at_its_place, task)

    def _fits(self, task: Task) -> bool:
        if self._room is None:
            return True
        return sum(map(self._need, (task, *self._running))) <= self._room

    def _at_its_place(self, task: Task) -> None:
        """Do a task, unless who left the engine took all places; what became of it is told in the queue."""
        with suppress(Empty):
            place = self._places.get_nowait()
            ended: Future[Ended] = Future()
            try:
                one_thread()
                ended.set_result(self._perform(task))
            except BaseException as error:  # noqa: BLE001  # raised where the end is asked for
                ended.set_exception(error)
            finally:
                self._places.put(place)
            self._ended.put((task, ended))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None or self._running or self._ready:
            self._halt.ask()
        self._pool.shutdown(wait=False, cancel_futures=True)
        # A task that is stopped removes its temporary files: that is waited for. Not by the pool, nor by
        # what is known to run, since Ctrl-C may have come before the one or the other knew of a thread.
        for _ in range(self._at_once):
            _awaited(self._places)


def _awaited(queue: SimpleQueue[T]) -> T:
    """The next of a queue, looked for now and then: a signal just before a thread sleeps does not wake it."""
    while True:
        with suppress(Empty):
            return queue.get(timeout=_LOOK_S)
