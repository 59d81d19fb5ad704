"""Where a merge puts each module: the rows that ``plan --modules`` shows, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lorapipe.plan.plan import Plan, PlannedStep
from lorapipe.weights.inference.binding import bind
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec

__all__ = ["BoundRow", "bound_rows", "is_merge"]


@dataclass(frozen=True, slots=True)
class BoundRow:
    """A module of a merged LoRA: its name in the file, and its place in the checkpoint.

    ``rows`` are those of the tensor ``key``, all of them if ``None``. A module without a
    place has no ``key`` but a ``reason``.
    """

    lora: str
    name: str
    key: str | None
    rows: tuple[int, int] | None = None
    reason: str | None = None


def is_merge(planned: PlannedStep) -> bool:
    """Whether a step adds LoRAs to a checkpoint."""
    return planned.step.kind == "merge-into-checkpoint"


def bound_rows(plan: Plan, planned: PlannedStep) -> Iterator[BoundRow]:
    """The modules of each LoRA of a merge: those that have a place, then the others."""
    base = plan.steps[planned.step.inputs["merge-into-checkpoint"][0].step].spec
    assert isinstance(base, CheckpointSpec)
    for term in planned.step.inputs["loras"]:
        adapter = plan.steps[term.step].spec
        assert isinstance(adapter, AdapterSpec)
        binding = bind(adapter, base)
        for bound in binding.bound:
            yield BoundRow(term.step, adapter.modules[bound.module].spelling.stem, bound.key, bound.rows)
        for lost in binding.problems:
            name = adapter.modules[lost.module].spelling.stem
            yield BoundRow(term.step, name, None, reason=lost.reason)
