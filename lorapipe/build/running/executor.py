"""Walk the plan's schedule: next, work, release, tell; where a check fails, without what it holds back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from lorapipe.build.engines.threads import single_threaded_torch
from lorapipe.build.events import Listener, StepDone, StepStarted
from lorapipe.build.ownership import Ownership
from lorapipe.build.result import BuiltOutput, Done
from lorapipe.build.running.means import Means
from lorapipe.build.running.results import Results
from lorapipe.build.running.tasks import Workshop, run_task
from lorapipe.errors import CheckFailed, LorapipeError, ManyErrors
from lorapipe.plan.checks import failures
from lorapipe.plan.graph import Position
from lorapipe.plan.plan import Plan, PlannedStep
from lorapipe.plan.resolve import placed

__all__ = ["execute"]


def execute(plan: Plan, ownership: Ownership, means: Means, listen: Listener) -> Done:
    """Do what is on the schedule.

    A value lives from the step that makes it to the last step that uses it. A check that does not
    hold ends nothing but the way to the outputs that it holds back; other errors of steps are
    raised at once, with the step named, those of checks before them.
    """
    walk = _Walk(Workshop(plan, ownership, means, listen, Results(ownership.records, plan)))
    with single_threaded_torch():
        for number, position in enumerate(plan.schedule, start=1):
            if not position.goals <= walk.given_up:
                walk.do(position, number)
            elif plan.steps[position.step].output is not None:
                walk.tell(position, number)
                walk.end(position.step, "held back")
            for released in position.releases:
                walk.values.pop(released, None)
    return Done(tuple(walk.written), tuple(walk.failed), tuple(walk.done))


@dataclass(slots=True)
class _Walk:
    """How far an execution is; ``given_up`` are goals that will not be reached."""

    shop: Workshop
    values: dict[str, Any] = field(default_factory=dict)
    written: list[BuiltOutput] = field(default_factory=list)
    failed: list[LorapipeError] = field(default_factory=list)
    done: list[StepDone] = field(default_factory=list)
    given_up: set[str] = field(default_factory=set)

    def do(self, position: Position, number: int) -> None:
        plan = self.shop.plan
        planned = plan.steps[position.step]
        self.tell(position, number)
        started = time.monotonic()
        try:
            value, how = run_task(planned, self.values, self.shop)
        except LorapipeError as error:
            if planned.step.id not in plan.held or not _is_of_check(error):
                raise _with_place([*self.failed, *placed(error, planned.step)]) from error.__cause__
            self._give_up(error, planned)
            value, how = None, "does not hold"
        if isinstance(value, BuiltOutput):
            self.written.append(value)
        self.values[position.step] = value
        self.end(planned.step.id, how, time.monotonic() - started)

    def end(self, step: str, how: str, seconds: float = 0.0) -> None:
        self.done.append(StepDone(step, how, seconds))
        self.shop.listen(self.done[-1])

    def tell(self, position: Position, number: int) -> None:
        plan = self.shop.plan
        kind = plan.steps[position.step].step.kind
        self.shop.listen(StepStarted(position.step, kind, number, len(plan.schedule)))

    def _give_up(self, error: LorapipeError, planned: PlannedStep) -> None:
        plan = self.shop.plan
        self.failed += failures(error, planned, plan)
        self.given_up |= {planned.step.id, *plan.held[planned.step.id]}


def _is_of_check(error: LorapipeError) -> bool:
    errors = error.errors if isinstance(error, ManyErrors) else (error,)
    return all(isinstance(one, CheckFailed) for one in errors)


def _with_place(errors: list[LorapipeError]) -> LorapipeError:
    return errors[0] if len(errors) == 1 else ManyErrors(errors)
