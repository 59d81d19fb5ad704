"""What came of a sweep: each variant of an output, with the figures that the steps above it told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite
from types import MappingProxyType

from lorapipe.build.events import Event, Listener, Note, StepDone
from lorapipe.build.records import Records
from lorapipe.build.result import BuiltOutput
from lorapipe.build.sweep import Quantity, Sweep, SweepTable, Variant
from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.recipe.matrix import identity
from lorapipe.recipe.model import JSON
from lorapipe.steps.kind import Materialise

__all__ = [
    "Came",
    "Figure",
    "Notes",
    "Told",
    "built_sweep",
    "failing",
    "figures_told",
    "noted",
    "noting",
    "swept",
]

Told = Callable[[PlannedStep], Mapping[str, object]]
"""What is known of a step's result by the facts that its kind notes: of this run, or of the store."""

Notes = Mapping[str, Mapping[str, object]]
"""What a run told of its steps: facts by step."""

Figure = tuple[Quantity, float]


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


def noting(listen: Listener, notes: dict[str, dict[str, object]]) -> Listener:
    """``listen``, with what steps note of their results kept in ``notes``."""

    def told(event: Event) -> None:
        if isinstance(event, Note):
            notes.setdefault(event.step, {})[event.fact] = event.value
        listen(event)

    return told


def noted(planned: PlannedStep, *, notes: Notes, records: Records) -> Mapping[str, object]:
    """What was noted of a step's result: in a run (``notes``), else when the store came to have it."""
    told = notes.get(planned.step.id)
    if told is None and planned.key is not None and planned.kind.materialise in _NOTING:
        return records.notes(planned.key)
    return told or {}


_NOTING = (Materialise.STORED, Materialise.CHECK)


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


def figures_told(notes: Mapping[str, object]) -> Iterator[Figure]:
    """What a kind noted of its result, in figures; what is not finite is none.

    Of energy kept and norm missed the mean over modules and the worst, as a run says them.
    """
    for quantity, number in _told(notes):
        if isinstance(number, int | float) and not isinstance(number, bool) and isfinite(number):
            yield quantity, float(number)


def _told(notes: Mapping[str, object]) -> Iterator[tuple[Quantity, object]]:
    for fact, (mean, worst, of) in _OF_MODULES.items():
        if shares := _numbers(notes.get(fact)):
            yield Quantity(mean, "share"), sum(shares) / len(shares)
            yield Quantity(worst, "share"), of(shares)
    if ranks := _numbers(notes.get("ranks")):
        yield Quantity("mean rank", "number"), sum(ranks) / len(ranks)
    if "lowest score kept" in notes:
        yield Quantity("lowest score", "number"), notes["lowest score kept"]
    if notes.get("underflow"):
        yield Quantity("became zero", "count"), notes["underflow"]
    for fact in ("holds", "measured"):
        if isinstance(told := notes.get(fact), dict):
            yield from _of_check(told)


_OF_MODULES: Mapping[str, tuple[str, str, Callable[[list[float]], float]]] = {
    "energy": ("energy kept", "least kept", min),
    "error": ("norm missed", "most missed", max),
}


def _numbers(told: object) -> list[float]:
    values = told.values() if isinstance(told, dict) else ()
    return [value for value in values if isinstance(value, int | float)]


def _of_check(told: Mapping[str, object]) -> Iterator[tuple[Quantity, object]]:
    """What a check measured: of ranks and norms the ends, of energy all of it and the worst module's."""
    for fact, unit in (("rank", "count"), ("norm", "number")):
        for end, word in (("min", "least"), ("max", "largest")):
            yield Quantity(f"{word} {fact}", unit), _at(told, fact, end, "value")
    yield Quantity("energy in all", "share"), _at(told, "energy", "total")
    yield Quantity("least energy", "share"), _at(told, "energy", "min", "value")
    yield Quantity("modules", "count"), told.get("modules")


def _at(told: object, *path: str) -> object:
    """What stands at a path of keys; ``None`` where it does not lead on."""
    for key in path:
        told = told.get(key) if isinstance(told, dict) else None
    return told
