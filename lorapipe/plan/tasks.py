"""A plan's schedule as tasks: what an engine runs as one, wherever that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorapipe.plan.checks import checked_steps
from lorapipe.plan.graph import awaited, step_graph
from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.steps.kind import Materialise

__all__ = ["Task", "tasks_of"]


@dataclass(frozen=True, slots=True)
class Task:
    """A step whose result is kept, checked or written, with the lazy steps under it.

    ``steps`` are all that is done for it, inputs first and ``step`` itself last: lazy ones, and those
    whose results the store has by then. ``after`` are the tasks that must have ended before,
    by their steps; ``goals`` the wanted steps that it is done for: without them it need not be done.
    """

    step: str
    steps: tuple[str, ...]
    after: frozenset[str]
    goals: frozenset[str]


def tasks_of(plan: Plan) -> tuple[Task, ...]:
    """The tasks of a plan, in the order of its schedule: each after those that it waits for."""
    order = {position.step: number for number, position in enumerate(plan.schedule)}
    waits = awaited(step_graph(plan.recipe), checked_steps(plan.recipe))
    tasks = []
    for position in plan.schedule:
        planned = plan.steps[position.step]
        if _at_once(planned):
            continue
        steps = sorted(_needed(planned, plan.steps), key=order.__getitem__)
        checks = set().union(*(waits.get(step, ()) for step in (*steps, position.step)))
        made = {step for step in steps if not _at_once(plan.steps[step])}
        after = frozenset(made | {check for check in checks if check in order})
        tasks.append(Task(position.step, (*steps, position.step), after, position.goals))
    return tuple(tasks)


def _at_once(planned: PlannedStep) -> bool:
    """Whether a step needs no task: it is lazy, or its result is in the store."""
    return planned.kind.materialise is Materialise.LAZY or planned.status is Status.IN_STORE


def _needed(planned: PlannedStep, steps: Mapping[str, PlannedStep]) -> set[str]:
    """What a step takes, down to what is kept; above its inputs stand theirs, if these are lazy."""
    needed: set[str] = set()
    # Each once, and without recursion: a recipe may have chains of thousands of lazy steps, and diamonds.
    pending = [planned]
    while pending:
        new = {term.step for term in pending.pop().step.terms()} - needed
        needed |= new
        pending += [steps[step] for step in new if steps[step].kind.materialise is Materialise.LAZY]
    return needed
