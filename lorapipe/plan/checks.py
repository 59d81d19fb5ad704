"""Checks in a plan: what they are about, what they hold back, what is said of those that do not hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from lorapipe.errors import CheckFailed, LorapipeError
from lorapipe.plan.graph import held_back, step_graph
from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.plan.resolve import placed
from lorapipe.recipe.model import Recipe
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Materialise
from lorapipe.weights.verdicts import CheckSpec

__all__ = [
    "check_status",
    "checked_steps",
    "failures",
    "foretold_failures",
    "held_outputs",
    "is_of_checks",
    "stopped",
]


def checked_steps(recipe: Recipe) -> dict[str, str]:
    """The steps that are checks, each with the step that it is about: its main input."""
    return {name: recipe.steps[name].inputs[kind][0].step for name, kind in _of(recipe, Materialise.CHECK)}


def held_outputs(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """The steps that write what each check holds back, by the check."""
    checked, outputs = checked_steps(recipe), [name for name, _ in _of(recipe, Materialise.OUTPUT)]
    return held_back(step_graph(recipe), checked, outputs)


def is_of_checks(error: LorapipeError) -> bool:
    """Whether a run ended with no other errors than those of its checks, after it did all that it could."""
    return all(isinstance(one, CheckFailed) for one in error.parts)


def _of(recipe: Recipe, materialise: Materialise) -> Iterator[tuple[str, str]]:
    """The steps of kinds whose results come to be so, each with its kind."""
    for name, step in recipe.steps.items():
        if find_kind(step.kind).materialise is materialise:
            yield name, step.kind


def check_status(spec: CheckSpec, key: str | None, *, stored: bool) -> tuple[Status, str]:
    """What a run would do with a check, and why; ``stored`` is whether it held before."""
    if spec.broken:
        return Status.FAILS, "; ".join(broken.message for broken in spec.broken)
    if not spec.open:
        return Status.UP_TO_DATE, "the headers show that it holds"
    if key is None:
        return Status.UNDECIDED, "an input is not hashed yet"
    if stored:
        return Status.UP_TO_DATE, f"it held before, key {key[:12]}"
    return Status.RUN, "not known to hold yet"


def stopped(steps: Mapping[str, PlannedStep], held: Mapping[str, tuple[str, ...]]) -> dict[str, PlannedStep]:
    """The steps, where outputs of which a check is known not to hold are held back."""
    failing = {check: outputs for check, outputs in held.items() if steps[check].status is Status.FAILS}
    result = dict(steps)
    for check, outputs in failing.items():
        for output in outputs:
            if result[output].status not in (Status.UP_TO_DATE, Status.HELD):
                result[output] = replace(
                    result[output], status=Status.HELD, reason=f"check '{check}' does not hold"
                )
    return result


def foretold_failures(plan: Plan) -> list[LorapipeError]:
    """The errors of those checks that headers show not to hold."""
    found: list[LorapipeError] = []
    for planned in plan.steps.values():
        if planned.status is Status.FAILS:
            assert isinstance(planned.spec, CheckSpec)
            errors = (
                CheckFailed("check-failed", broken.message, option=broken.option, details=broken.details)
                for broken in planned.spec.broken
            )
            for error in errors:
                found += failures(error, planned, plan)
    return found


def failures(error: LorapipeError, planned: PlannedStep, plan: Plan) -> Iterator[LorapipeError]:
    """What a check raised, one by one, in its place in the recipe, with what it holds back."""
    for one in placed(error, planned.step):
        one.message = f"'{planned.step.inputs[planned.step.kind][0].step}': {one.message}"
        one.hint = _consequence(planned, plan)
        yield one


def _consequence(planned: PlannedStep, plan: Plan) -> str | None:
    held = [plan.steps[output] for output in plan.held[planned.step.id]]
    there = [step.step.id for step in held if step.status is Status.UP_TO_DATE]
    missed = [step.step.id for step in held if step.status is not Status.UP_TO_DATE]
    said = [f"not made: {', '.join(missed)}"] if missed else []
    if there:
        said.append(f"left as {'it is' if len(there) == 1 else 'they are'}: {', '.join(there)}")
    return "; ".join(said) or None
