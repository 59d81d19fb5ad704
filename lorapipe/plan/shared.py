"""What a run would fetch from a shared store instead of making it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from lorapipe.plan.graph import Position
from lorapipe.plan.plan import PlannedStep, Status
from lorapipe.steps.kind import Materialise
from lorapipe.weights.verdicts import CheckSpec

__all__ = ["SharedPast", "with_shared"]

_KEPT = (Materialise.STORED, Materialise.CHECK)


class SharedPast(Protocol):
    """What a plan may ask of a shared store; asking never writes to it."""

    def look(self, keys: Collection[str], needed: Collection[str] = ()) -> Mapping[str, int]:
        """Which of the keys it has, with the bytes of their results; ``needed`` are of use only if here."""

    @property
    def unasked(self) -> str | None:
        """Why it is not asked for anything, in a sentence; ``None`` while it is."""


def with_shared(
    steps: Mapping[str, PlannedStep], schedule: Iterable[Position], shared: SharedPast
) -> dict[str, PlannedStep]:
    """The steps, where some on the schedule need not run since the shared store has their results.

    It is asked for all at once, and only for what would run: who has nothing to do asks nothing.
    """
    due: defaultdict[str, list[PlannedStep]] = defaultdict(list)
    for key, planned in _due(steps, schedule):
        due[key].append(planned)
    # Nobody reads a check's figures again: that they are there says that it held.
    checks = {key for key, planned in due.items() if isinstance(planned[0].spec, CheckSpec)}
    sizes = shared.look(due, checks) if due else {}
    found = {planned.step.id: _found(planned, sizes[key]) for key in sizes for planned in due[key]}
    return {**steps, **found}


def _due(steps: Mapping[str, PlannedStep], schedule: Iterable[Position]) -> Iterator[tuple[str, PlannedStep]]:
    for position in schedule:
        planned = steps[position.step]
        if planned.key is not None and planned.kind.materialise in _KEPT and planned.status is Status.RUN:
            yield planned.key, planned


def _found(planned: PlannedStep, size: int) -> PlannedStep:
    assert planned.key is not None
    key = f"key {planned.key[:12]}"
    if isinstance(planned.spec, CheckSpec):
        reason = f"it held before, {key}, in the shared store"
        return replace(planned, status=Status.UP_TO_DATE, reason=reason)
    return replace(planned, status=Status.IN_STORE, reason=key, fetch=size)
