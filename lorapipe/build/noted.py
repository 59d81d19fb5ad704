"""What steps note of their results: heard in a run, remembered by the store, and in figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import isfinite

from lorapipe.build.events import Event, Listener, Note
from lorapipe.build.records import Records
from lorapipe.build.sweep import Quantity
from lorapipe.plan.plan import PlannedStep
from lorapipe.steps.kind import Materialise

__all__ = ["Figure", "Notes", "figures_told", "noted", "noting"]

Notes = Mapping[str, Mapping[str, object]]
"""What a run told of its steps: facts by step."""

Figure = tuple[Quantity, float]


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
