"""Hand a plan's tasks to an engine, each when it is ready; where a check fails, not what it holds back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from lorapipe.build.engines.engine import Ended, Engine
from lorapipe.build.events import Event, Listener, StepDone, StepStarted
from lorapipe.build.result import BuiltOutput, Done
from lorapipe.errors import LorapipeError, gathered
from lorapipe.plan.checks import failures, is_of_checks
from lorapipe.plan.plan import Plan
from lorapipe.plan.resolve import by_place, placed
from lorapipe.plan.tasks import Task, tasks_of

__all__ = ["Begin", "execute"]

Begin = Callable[[Plan, tuple[Task, ...], Listener], AbstractContextManager[Engine]]
"""Gives the engine for a plan's tasks, which tells the listener of their steps; leaving it ends all work."""


def execute(plan: Plan, begin: Begin, listen: Listener) -> Done:
    """Do what is on the schedule.

    A check that does not hold ends nothing but the way to the outputs that it holds back; other
    errors of steps are raised at once, with the step named, those of checks before them.
    """
    tasks = {task.step: task for task in tasks_of(plan)}
    numbers = {position.step: number for number, position in enumerate(plan.schedule, start=1)}
    waiting = TopologicalSorter({step: task.after for step, task in tasks.items()})
    waiting.prepare()
    walk = _Walk(plan, numbers, listen)
    under_way = 0
    with begin(plan, tuple(tasks.values()), walk.hear) as engine:
        while waiting.is_active():
            for step in sorted(waiting.get_ready(), key=numbers.__getitem__):
                if tasks[step].goals <= walk.given_up:
                    walk.hold_back(step)
                    waiting.done(step)
                else:
                    engine.submit(tasks[step])
                    under_way += 1
            if under_way:
                ended = engine.next()
                under_way -= 1
                walk.take(ended)
                waiting.done(ended.task.step)
    return walk.result()


@dataclass(slots=True)
class _Walk:
    """How far an execution is; ``given_up`` are goals that will not be reached."""

    plan: Plan
    numbers: Mapping[str, int]
    listen: Listener
    written: dict[str, BuiltOutput] = field(default_factory=dict)
    failed: list[LorapipeError] = field(default_factory=list)
    done: dict[str, StepDone] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)

    def hear(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self.done[event.step] = event
        self.listen(event)

    def take(self, ended: Ended) -> None:
        if ended.output is not None:
            self.written[ended.output.step] = ended.output
        if ended.error is not None:
            self._fail(ended.error, ended.at or ended.task.step)

    def _fail(self, error: LorapipeError, step: str) -> None:
        planned, held = self.plan.steps[step], self.plan.held
        if step not in held or not is_of_checks(error):
            before = sorted(self.failed, key=by_place)
            raise gathered([*before, *placed(error, planned.step)]) from error.__cause__
        self.failed += failures(error, planned, self.plan)
        self.given_up |= {step, *held[step]}

    def hold_back(self, step: str) -> None:
        """Tell of an output that will not be made; of what is made for it alone there is nothing to say."""
        planned, count = self.plan.steps[step], len(self.plan.schedule)
        if planned.output is not None:
            self.hear(StepStarted(step, planned.step.kind, self.numbers[step], count))
            self.hear(StepDone(step, "held back", 0.0))

    def result(self) -> Done:
        """What came of it, in the order of the plan, whatever ended first."""
        written = tuple(self.written[step] for step in self.plan.steps if step in self.written)
        done = tuple(self.done[step] for step in self.plan.steps if step in self.done)
        return Done(written, tuple(self.failed), done)
