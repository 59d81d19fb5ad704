"""A worker process: the jobs that it has planned, and the tasks that it does of them."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lorapipe.build.cluster.job import Job
from lorapipe.build.cluster.messages import TOPIC, Left, Order, Outcome, Stranger, Told, message_of
from lorapipe.build.cluster.planned import Planned
from lorapipe.build.engines.engine import Ended
from lorapipe.build.engines.halt import Halt, Halted
from lorapipe.build.engines.threads import Crew, one_thread
from lorapipe.build.events import Event, Hashing, Listener, Progress
from lorapipe.build.records import EntryVanished, Records
from lorapipe.build.result import BuiltOutput
from lorapipe.build.running.means import Means
from lorapipe.plan.parts import parts_of
from lorapipe.version import __version__

if TYPE_CHECKING:
    from distributed import Worker

__all__ = ["Station", "forget", "means_on", "run_order", "station_of"]

_JOBS = 4
"""Jobs that a worker keeps: a few builds may share a cluster."""

_LOOK_S = 0.2
"""Seconds between two looks at whether a task is still wanted."""

_TOLD_S = 0.2
"""Seconds between two steps forward that are told of a step: each goes through the scheduler."""

_BROUGHT_S = 60.0
"""Seconds for a job to be brought to a worker that does not know it: inputs may have to be read."""

_PATIENCE_S = 3.0
"""Seconds within which a file server shows one machine what another has written."""

_OURS = 0.75
"""Of a worker's memory limit what a task takes: at 0.8 dask gives a worker no more to do."""

_AT_WORK = ("init", "running", "paused", "closing_gracefully")
"""In which states a worker goes on with what it is at."""

Tell = Callable[["Event | Left"], None]
Wanted = Callable[[], bool]


class Station:
    """The jobs of a worker process, by name; what was used longest ago is let go."""

    def __init__(self) -> None:
        self._jobs: dict[str, Planned] = {}
        self._lock = threading.Lock()

    def accept(self, job: Job) -> Planned:
        """Plan a job, unless it is planned already. Raises as :class:`~.planned.Planned`."""
        with self._lock:
            planned = self._jobs.pop(job.name, None) or Planned(job)
            self._jobs[job.name] = planned
            while len(self._jobs) > _JOBS:
                self._jobs.pop(next(iter(self._jobs))).close()
            return planned

    def find(self, name: str) -> Planned | None:
        """A job that is planned here."""
        return self._jobs.get(name)

    def forget(self, name: str) -> None:
        """Let go of a job, if it is known."""
        with self._lock:
            found = self._jobs.pop(name, None)
        if found is not None:
            found.close()

    def close(self) -> None:
        """Let go of all jobs: dask calls it when the worker ends."""
        for name in tuple(self._jobs):
            self.forget(name)


def station_of(worker: Worker) -> Station:
    """The station of a worker, as long as it lives."""
    station = worker.extensions.setdefault(f"lorapipe-{__version__}", Station())
    assert isinstance(station, Station)
    return station


def forget(name: str, dask_worker: Worker) -> None:
    """Let go of a job: run on each worker when its build ends."""
    station_of(dask_worker).forget(name)


def run_order(order: Order) -> Outcome:
    """What dask runs: a task, on a thread of the worker."""
    from distributed import get_worker

    worker = get_worker()
    key, address, state = worker.get_current_task(), worker.address, worker.state

    def wanted() -> bool:
        # Who takes it back, or is gone, has the scheduler take it from the worker at once.
        task = state.tasks.get(key)
        return task is not None and task.state == "executing" and worker.status.name in _AT_WORK

    def tell(what: Event | Left | Stranger) -> None:
        worker.log_event(TOPIC, message_of(Told(order.job, order.task.step, order.part, what)))

    found = found_or_brought(station_of(worker), order.job, lambda: tell(Stranger(address)), wanted)
    if found is None:
        return Outcome(address, undone=True)
    means = means_on(found.job, state.nthreads, state.executing_count, worker.memory_manager.memory_limit)
    try:
        return do(found, order, means, tell=tell, wanted=wanted, address=address)
    except Exception:  # noqa: BLE001  # as text, for not everything that is raised can travel
        return Outcome(address, fault=traceback.format_exc())


def found_or_brought(
    station: Station, job: str, ask: Callable[[], None], wanted: Wanted, patience_s: float = _BROUGHT_S
) -> Planned | None:
    """A job that is planned here, or is when it was asked for; ``None`` if nobody brings it.

    It is waited for within the task: who dies of a task again and again, started anew each time, is
    counted by the scheduler.
    """
    found = station.find(job)
    if found is None:
        ask()
    until = time.monotonic() + patience_s
    while found is None and wanted() and time.monotonic() < until:
        time.sleep(_LOOK_S / 4)
        found = station.find(job)
    return found


def means_on(job: Job, threads: int, at_work: int, limit: int | None) -> Means:
    """What a task of a job may use on a worker that runs as many as it has ``threads``, now ``at_work``.

    ``limit`` are the bytes that dask lets the worker's process take.
    """
    memory = job.memory
    if limit and (memory is None or memory > limit * _OURS):
        memory = int(limit * _OURS)
    own = job.workers or max(1, threads // max(1, at_work))
    return Means(own, None if memory is None else memory // threads)


def do(found: Planned, order: Order, means: Means, *, tell: Tell, wanted: Wanted, address: str) -> Outcome:
    """Do a task as the engine ``threads`` does it, as long as it is ``wanted``.

    What another machine has just put into a shared store is waited for, should a file server not show
    it yet. Raises what is no error of a step.
    """
    until = time.monotonic() + (0.0 if found.job.places.shared is None else _PATIENCE_S)
    while True:
        try:
            ended = _ended(found, order, means, tell, wanted)
            break
        except EntryVanished as vanished:
            if time.monotonic() >= until:
                return Outcome(address, vanished=str(vanished))
            time.sleep(_LOOK_S)
        except Halted:
            return Outcome(address, undone=True)
        finally:
            tell(Left())
    found.records.sharing.finish()  # before others are told that it is there
    content = "" if ended.output is None else _content(found.records, ended.output)
    return Outcome(address, ended.output, content, ended.part, ended.error, ended.at)


def _ended(found: Planned, order: Order, means: Means, tell: Tell, wanted: Wanted) -> Ended:
    from lorapipe.build.running.bench import Bench  # it needs torch

    one_thread()
    found.records.settle()
    task, plan = order.task, found.ready(order.task)
    with found.at_work() as halt, _watched(halt, wanted), Crew(means.workers, halt) as crew:
        bench = Bench(plan, (task,), found.ownership, means, crew, now_and_then(tell))
        if order.part is None:
            return bench.perform(task, order.parts)
        part = next(part for part in parts_of(plan.steps[task.step]) if part.name == order.part)
        return bench.make_part(task, part)


def now_and_then(tell: Tell, clock: Callable[[], float] = time.monotonic) -> Listener:
    """A listener that passes on what happens, of steps forward no more than a few a second, and the last."""
    last: dict[str, float] = {}

    def listen(event: Event) -> None:
        if isinstance(event, Progress | Hashing):
            about = event.step if isinstance(event, Progress) else str(event.path)
            now = clock()
            if event.done < event.total and now - last.get(about, -_TOLD_S) < _TOLD_S:
                return
            last[about] = now
        tell(event)

    return listen


@contextmanager
def _watched(halt: Halt, wanted: Wanted) -> Iterator[None]:
    """Ask to stop when what is done in the context is no longer wanted."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_S):
            if not wanted():
                halt.ask()
                return

    watcher = threading.Thread(target=watch, name="lorapipe-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _content(records: Records, output: BuiltOutput) -> str:
    """The content key under which the journal has an output."""
    found = (record for record in records.history(output.path) if record.sha256 == output.sha256)
    return next((record.making.content for record in found), "")
