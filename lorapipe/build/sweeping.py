"""What came of a sweep: each variant of an output, with the figures that the steps above it told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from lorapipe.build.events import StepDone
from lorapipe.build.noted import Figure, Notes, figures_told, noted
from lorapipe.build.records import Records
from lorapipe.build.result import BuiltOutput
from lorapipe.build.sweep import Quantity, Sweep, SweepTable, Variant
from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.recipe.matrix import identity
from lorapipe.recipe.model import JSON
from lorapipe.steps.kind import Materialise

__all__ = ["Came", "Told", "built_sweep", "failing", "swept"]

Told = Callable[[PlannedStep], Mapping[str, object]]
"""What is known of a step's result by the facts that its kind notes: of this run, or of the store."""


@dataclass(frozen=True, slots=True)
class Came:
    """How an output came; size in bytes and sha256, where it is in place."""

    state: str
    size: int | None = None
    sha256: str | None = None


def swept(
    plan: Plan,
    came: Mapping[str, Came],
    told: Told,
    *,
    failed: Collection[str] = (),
    measured: Mapping[str, tuple[Figure, ...]] = MappingProxyType({}),
) -> Sweep | None:
    """The sweep of a recipe with a matrix; ``None`` without one.

    ``came`` is how outputs came, by step; of others it is what a run would do. ``failed`` are the
    checks that do not hold, and ``measured`` what is known of outputs besides what steps told.
    """
    if not plan.recipe.matrix:
        return None
    work = _Sweeping(plan, came, told, failed, measured)
    return Sweep(plan.recipe.matrix, tuple(map(work.table, work.shown())))


def built_sweep(
    plan: Plan, outputs: Iterable[BuiltOutput], steps: Iterable[StepDone], notes: Notes, records: Records
) -> Sweep | None:
    """The sweep of a build that ends: what it wrote, found and held back, and what was noted of it."""
    hows = {done.step: done.how for done in steps}
    came = {step: Came(how) for step, how in hows.items()}
    for output in outputs:
        state = "written" if output.written else "up to date"
        came[output.step] = Came(state, output.size, output.sha256)
    told = partial(noted, notes=notes, records=records)
    return swept(plan, came, told, failed=failing(plan, hows))


def failing(plan: Plan, hows: Mapping[str, str]) -> frozenset[str]:
    """The checks that do not hold, as headers show or as the run told (``hows``, by step)."""
    foretold = {step for step, planned in plan.steps.items() if planned.status is Status.FAILS}
    return frozenset(foretold | {step for step, how in hows.items() if how == "does not hold"})


class _Sweeping:
    """What is asked again and again while tables are made."""

    def __init__(
        self,
        plan: Plan,
        came: Mapping[str, Came],
        told: Told,
        failed: Collection[str],
        measured: Mapping[str, tuple[Figure, ...]],
    ) -> None:
        self._plan, self._came, self._told = plan, came, told
        self._failed, self._measured = failed, measured
        self._known: dict[str, tuple[Figure, ...]] = {}
        self._place = {step: number for number, step in enumerate(plan.steps)}
        self._checks: dict[str, list[str]] = {}
        for check, held in plan.held.items():
            for output in held:
                self._checks.setdefault(output, []).append(check)

    def shown(self) -> list[list[PlannedStep]]:
        """The variants of each output, and of the checks that are of no output, in the recipe's order."""
        outputs = self._grouped(Materialise.OUTPUT)
        within = {planned.step.id for of in outputs for planned in of}
        checks = [
            of
            for of in self._grouped(Materialise.CHECK)
            if not any(within.intersection(self._plan.held.get(planned.step.id, ())) for planned in of)
        ]
        return [*outputs, *checks]

    def _grouped(self, materialise: Materialise) -> list[list[PlannedStep]]:
        found: dict[str, list[PlannedStep]] = {}
        for step in self._plan.recipe.steps.values():
            of = found.setdefault(step.written, [])
            planned = self._plan.steps.get(step.id)  # --only leaves variants out
            if planned is not None and step.axes and planned.kind.materialise is materialise:
                of.append(planned)
        return [of for of in found.values() if of]

    def table(self, variants: list[PlannedStep]) -> SweepTable:
        found = [list(self._figures(planned)) for planned in variants]
        names = _names(figure for of in found for figure in of)
        rows = tuple(
            self._variant(planned, {names[of, quantity]: number for of, quantity, number in figures})
            for planned, figures in zip(variants, found, strict=True)
        )
        quantities = tuple(Quantity(name, quantity.unit) for (_, quantity), name in names.items())
        return SweepTable(variants[0].step.written, _axes(self._plan, variants), quantities, rows)

    def _variant(self, planned: PlannedStep, figures: Mapping[str, float]) -> Variant:
        step = planned.step
        checks = [step.id] if planned.output is None else self._checks.get(step.id, [])
        came = self._came.get(step.id, Came(planned.status.value))
        return Variant(
            step=step.id,
            values=step.axes,
            state=came.state,
            path=planned.output,
            size=came.size,
            sha256=came.sha256,
            failed=tuple(self._plan.steps[check].step.written for check in checks if check in self._failed),
            figures=figures,
        )

    def _figures(self, planned: PlannedStep) -> Iterator[tuple[str, Quantity, float]]:
        """What the steps above it tell that depend on an axis, its checks, and what was measured of it."""
        seen: set[str] = set()
        pending = [planned.step.id, *self._checks.get(planned.step.id, ())]
        while pending:
            known = self._plan.steps[pending.pop()]
            if known.step.axes and known.step.id not in seen:
                seen.add(known.step.id)
                pending += (term.step for term in known.step.terms())
        for step in sorted(seen, key=self._place.__getitem__):
            if step not in self._known:
                self._known[step] = tuple(figures_told(self._told(self._plan.steps[step])))
            yield from ((self._plan.steps[step].step.written, *one) for one in self._known[step])
        for quantity, number in self._measured.get(planned.step.id, ()):
            yield planned.step.written, quantity, number


def _axes(plan: Plan, variants: Iterable[PlannedStep]) -> dict[str, tuple[JSON, ...]]:
    """The axes of these steps, with the values that they have, in the order of the matrix."""
    found: dict[str, set[tuple[bool, object]]] = {}
    for planned in variants:
        for axis, value in planned.step.axes.items():
            found.setdefault(axis, set()).add(identity(value))
    return {
        axis: tuple(value for value in values if identity(value) in found[axis])
        for axis, values in plan.recipe.matrix.items()
        if axis in found
    }


def _names(figures: Iterable[tuple[str, Quantity, float]]) -> dict[tuple[str, Quantity], str]:
    """A name for what each step tells: with the step, where several steps tell of the same."""
    found = dict.fromkeys((of, quantity) for of, quantity, _ in figures)
    names = [quantity.name for _, quantity in found]
    return {
        (of, quantity): quantity.name if names.count(quantity.name) == 1 else f"{quantity.name} ({of})"
        for of, quantity in found
    }
