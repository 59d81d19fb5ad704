"""Where tasks are done: the steps of one, their values, what is told of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lorapipe.build.engines.engine import Ended
from lorapipe.build.engines.halt import Halt
from lorapipe.build.engines.local import Local
from lorapipe.build.engines.threads import Crew, single_threaded_torch
from lorapipe.build.events import Event, Listener, StepDone, StepStarted
from lorapipe.build.ownership import Ownership
from lorapipe.build.result import BuiltOutput
from lorapipe.build.running.means import Means
from lorapipe.build.running.parts import write_part
from lorapipe.build.running.results import Results
from lorapipe.build.running.steps import Workshop, run_step
from lorapipe.build.running.values import Values
from lorapipe.errors import LorapipeError
from lorapipe.formats.containers.output import Written
from lorapipe.plan.checks import is_of_checks
from lorapipe.plan.parts import Part
from lorapipe.plan.plan import Plan
from lorapipe.plan.tasks import Task

__all__ = ["Bench", "local_engine"]


@contextmanager
def local_engine(
    plan: Plan, tasks: tuple[Task, ...], listen: Listener, *, ownership: Ownership, means: Means
) -> Iterator[Local]:
    """The engine that does a plan's tasks on threads of this process."""
    with Crew(means.workers, ownership.records.halt) as crew, single_threaded_torch():
        bench = Bench(plan, tasks, ownership, means, crew, listen)
        need = {task.step: means.need(plan.steps[task.step]) for task in tasks}
        number = {task.step: number for number, task in enumerate(tasks)}
        at_once = 1 if plan.device.startswith("cuda") else means.at_once
        with Local(
            bench.perform,
            crew.halt,
            at_once=at_once,
            number=lambda task: number[task.step],
            need=lambda task: need[task.step],
            room=means.room,
        ) as engine:
            yield engine


class Bench:
    """Does tasks of one plan, several at a time if need be; ``listen`` is called by the thread that does one.

    ``tasks`` are those that will be done here: a value is kept until the last of them has used it.
    """

    def __init__(
        self,
        plan: Plan,
        tasks: Iterable[Task],
        ownership: Ownership,
        means: Means,
        crew: Crew,
        listen: Listener,
    ) -> None:
        self._plan = plan
        self._numbers = {position.step: n for n, position in enumerate(plan.schedule, start=1)}
        self._listen = _while_it_goes_on(listen, crew.halt)
        results = Results(ownership.records, plan)
        self._shop = Workshop(plan, ownership, means, crew, self._listen, results)
        self._values = Values(self._do, tasks)

    def perform(self, task: Task, parts: Mapping[str, Written] | None = None) -> Ended:
        """Do a task. Raises what is no error of a step, and :class:`~lorapipe.errors.Halted`.

        ``parts`` are the files of an output folder that others made by :meth:`make_part`.
        """
        at = task.step
        try:
            for at in task.steps:
                value = self._values[at] if at != task.step else self._do(at, parts)
        except LorapipeError as error:
            return Ended(task, error=error, at=at)
        self._values.put(task.step, value)
        self._values.release(task)
        return Ended(task, value if isinstance(value, BuiltOutput) else None)

    def make_part(self, task: Task, part: Part) -> Ended:
        """Make one file of the output folder of a task. Raises as :meth:`perform`."""
        at = task.step
        try:
            for at in task.steps:
                if at != task.step:
                    self._values[at]
            return Ended(task, part=write_part(part, self._values, self._shop))
        except LorapipeError as error:
            return Ended(task, error=error, at=at)

    def _do(self, step: str, parts: Mapping[str, Written] | None = None) -> Any:
        """The step's value, and on the way what there is to tell."""
        planned, count = self._plan.steps[step], len(self._plan.schedule)
        self._listen(StepStarted(step, planned.step.kind, self._numbers[step], count))
        started = time.monotonic()
        try:
            value, how = run_step(planned, self._values, self._shop, parts)
        except LorapipeError as error:
            if is_of_checks(error):
                self._listen(StepDone(step, "does not hold", time.monotonic() - started))
            raise
        self._listen(StepDone(step, how, time.monotonic() - started))
        return value


def _while_it_goes_on(listen: Listener, halt: Halt) -> Listener:
    """``listen`` for threads, each of which is asked first whether to go on."""

    def told(event: Event) -> None:
        halt.go_on()
        listen(event)

    return told
