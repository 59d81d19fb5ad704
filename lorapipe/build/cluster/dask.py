"""``dask``, the engine that hands a plan's tasks to the workers of a dask scheduler.

No more tasks are out than the workers have threads: what is ready first is done first, wherever a worker
is free. Tasks of workers that die are given to others by the scheduler itself.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from lorapipe.build.cluster.asking import Watch, ask, check_able, meet, scheduler_lost
from lorapipe.build.cluster.hearing import Hearing
from lorapipe.build.cluster.job import job_of
from lorapipe.build.cluster.messages import TOPIC, Order, Outcome, Stranger, Told, told_of
from lorapipe.build.cluster.reach import marked
from lorapipe.build.cluster.station import forget, run_order
from lorapipe.build.cluster.work import Room, Work, folders_written, needs_of, room_of
from lorapipe.build.engines.engine import Ended
from lorapipe.build.events import Listener
from lorapipe.build.ownership import Ownership
from lorapipe.build.planning import Options
from lorapipe.build.records import EntryVanished
from lorapipe.errors import BuildError, LorapipeError
from lorapipe.formats.containers.output import Written
from lorapipe.plan.parts import parts_of
from lorapipe.plan.plan import Plan
from lorapipe.plan.provenance import account
from lorapipe.plan.tasks import Task
from lorapipe.store.journal import Making

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Dask", "dask_engine"]

_LOOK_S = 0.5
"""Seconds between two looks at scheduler and workers while nothing is heard."""

_GATHER_S = 60.0
"""Seconds for a task's outcome, which is small, to come from its worker."""

_STOP_S = 2.0
"""Seconds for tasks that are taken back to remove what is half done."""


@contextmanager
def dask_engine(
    plan: Plan,
    tasks: tuple[Task, ...],
    listen: Listener,
    *,
    client: Client,
    ownership: Ownership,
    options: Options,
) -> Iterator[Dask]:
    """The engine that has a plan's tasks done by the workers of ``client``; leaving it ends all work.

    Raises, before any work, what is wrong with the workers: as
    :func:`~lorapipe.build.cluster.asking.meet` and :func:`~lorapipe.build.cluster.asking.check_able` do.
    """
    watch = Watch(client)
    workers = watch.look()
    needs = {task.step: needs_of(plan, task, options, memory=workers.declare("MEMORY")) for task in tasks}
    for step, needed in needs.items():
        check_able(workers, step, needed)
    job = job_of(plan, tasks, ownership, options)
    with marked(folders_written(plan, ownership, options), options.places.shared) as marks:
        meet(client, workers.threads, job, marks)
        engine = Dask(Work(plan, ownership, job, marks, needs), watch, room_of(watch, options), listen)
        try:
            yield engine
        finally:
            engine.close()


@dataclass(slots=True)
class _Folder:
    """An output folder of which the files are made apart: those to come, and those that are there."""

    waiting: set[str]
    made: dict[str, Written] = field(default_factory=dict)


class Dask:
    """Runs the tasks of some work on the workers that ``watch`` sees, as far as there is ``room``."""

    def __init__(self, work: Work, watch: Watch, room: Room, listen: Listener) -> None:
        self._work = work
        self._watch = watch
        self._room = room
        self._client = watch.client
        self._told: queue.SimpleQueue[Future[Outcome] | Told] = queue.SimpleQueue()
        self._hearing = Hearing(work.plan, work.needs, listen)
        self._ready: list[Order] = []
        self._out: dict[str, tuple[Future[Outcome], Order]] = {}
        self._folders: dict[str, _Folder] = {}
        self._numbers = count()
        self._places = {position.step: place for place, position in enumerate(work.plan.schedule)}
        self._client.subscribe_topic(TOPIC, self._heard)

    def submit(self, task: Task) -> None:
        parts = parts_of(self._work.plan.steps[task.step])
        if parts:
            self._folders[task.step] = _Folder({part.name for part in parts})
        for part in parts:
            self._ready.append(Order(self._work.job.name, task, part.name))
        if not parts:
            self._ready.append(Order(self._work.job.name, task))
        self._give()

    def next(self) -> Ended:
        while True:
            told = self._hear(_LOOK_S)
            if told is None:
                self._watch.look()
            elif told.key in self._out:
                _, order = self._out.pop(told.key)
                ended = self._ended(order, told)
                if ended is not None:
                    self._give()
                    return ended
            self._give()

    def close(self) -> None:
        """Take back what is out, wait a moment for it to be cleared away, let the workers forget the job."""
        if self._out:
            self._client.cancel([future for future, _ in self._out.values()])
            until = time.monotonic() + _STOP_S
            while self._hearing.begun and time.monotonic() < until:
                self._hear(_STOP_S / 20)
        with suppress(LorapipeError, OSError):
            self._client.unsubscribe_topic(TOPIC)
            if not self._hearing.begun:  # else one is deaf for a while: it forgets the oldest by itself
                ask(self._client, forget, self._work.job.name, workers=None, patience_s=_STOP_S)

    def _give(self) -> None:
        """Hand out tasks as long as workers are free: of what is ready the first of the schedule.

        So the variants of a sweep end one by one, and a result is used soon after it is made.
        """
        self._ready.sort(key=lambda order: self._places[order.task.step])
        while self._ready and self._may_give(self._ready[0]):
            order = self._ready.pop(0)
            future = self._client.submit(
                run_order,
                order,
                key=f"{order.name}-{order.job}-{next(self._numbers)}",
                resources=dict(self._work.needs[order.task.step]) or None,
                pure=False,
            )
            self._out[future.key] = (future, order)
            future.add_done_callback(self._told.put)

    def _may_give(self, order: Order) -> bool:
        out = [other.task for _, other in self._out.values()]
        return not out or (
            len(out) < self._watch.workers.slots and self._room.fits(self._work.plan, [*out, order.task])
        )

    def _hear(self, seconds: float) -> Future[Outcome] | None:
        """Wait so long for a task to end; what is told meanwhile is passed on."""
        until = time.monotonic() + seconds
        while True:
            try:
                told = self._told.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return None
            if not isinstance(told, Told):
                return told
            if isinstance(told.what, Stranger):
                meet(self._client, [told.what.address], self._work.job, self._work.marks)
            else:
                self._hearing.hear(told)

    def _heard(self, event: tuple[float, object]) -> None:
        """Something came under the topic: called on the client's own thread."""
        told = told_of(event[1])
        if told is not None and told.job == self._work.job.name:
            self._told.put(told)

    def _ended(self, order: Order, future: Future[Outcome]) -> Ended | None:
        """How a task ended; ``None`` where more of it has to be done."""
        outcome, task = _outcome(order, future), order.task
        self._hearing.begun.discard((task.step, order.part))
        if outcome.fault:
            told = RuntimeError(outcome.fault)
            raise RuntimeError(f"on worker {outcome.address}: {outcome.fault.splitlines()[-1]}") from told
        if outcome.undone:
            self._ready.append(order)
            return None
        if outcome.vanished is not None:
            raise EntryVanished(outcome.vanished)
        if outcome.part is not None:
            self._gather(order, outcome.part)
            return None
        self._work.ownership.records.grew()
        if outcome.output is not None:
            self._adopt(task, outcome)
        if outcome.error is not None and self._watch.remote:
            last = outcome.error.parts[-1]
            last.details = (*last.details, f"on worker {outcome.address}")
        return Ended(task, outcome.output, outcome.error, outcome.at)

    def _gather(self, order: Order, part: Written) -> None:
        """Take one of the files of a folder; when they are all there, the folder is due."""
        assert order.part is not None
        folder = self._folders[order.task.step]
        folder.waiting.discard(order.part)
        folder.made[order.part] = part
        if not folder.waiting:
            self._ready.append(Order(order.job, order.task, parts=folder.made))

    def _adopt(self, task: Task, outcome: Outcome) -> None:
        """Enter an output in the journal of this machine's store, unless that is the worker's, too."""
        plan, output = self._work.plan, outcome.output
        planned = plan.steps[task.step]
        assert output is not None
        assert planned.key is not None
        assert planned.preimage is not None
        assert planned.lineage is not None
        making = Making(planned.preimage, account(planned.lineage, plan.profile), outcome.content)
        self._work.ownership.records.adopt(output.path, output.sha256, planned.key, lambda: making)


def _outcome(order: Order, future: Future[Outcome]) -> Outcome:
    """What a worker gave back. Raises what became of it, or what it raised that is a fault of ours."""
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    step = order.task.step
    try:
        outcome = future.result(timeout=_GATHER_S)
    except KilledWorker as error:
        raise BuildError(
            "workers-lost",
            f"it was given to {error.allowed_failures + 1} workers, all of which died at it",
            hint="they may have run out of memory: --memory bounds each of them; their logs say more",
            step=step,
        ) from error
    except (FutureCancelledError, TimeoutError, OSError) as error:
        raise scheduler_lost() from error
    assert isinstance(outcome, Outcome)
    return outcome
