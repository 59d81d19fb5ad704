"""What merges do to a checkpoint's tensors, noted and not yet done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod

from lorapipe.weights.blocks import BLOCK_ELEMENTS, OPERATED_ELEMENTS, SLAB_ELEMENTS
from lorapipe.weights.inference.cuts import NOWHERE, Cuts, can_cut
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.specs import ModuleId, TensorSpec
from lorapipe.weights.structures.delta import Delta

__all__ = ["Edit", "added", "block_rows", "operated", "slabs", "touching"]


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """What a module does to rows ``[start, stop)`` of a tensor; its weight is in it.

    The ``stage`` counts merges: an operator sees the weight after all edits of earlier
    stages and all deltas of its own. Of an operator, ``cuts`` say where its rows may be
    parted, counted from ``start`` on, and ``rule`` what its strength means.
    """

    module: ModuleId
    start: int
    stop: int
    value: Delta | Operated
    stage: int = 0
    cuts: Cuts = NOWHERE
    rule: str = "exact"

    def parted_at(self, row: int) -> bool:
        """Whether the tensor's rows before ``row`` may be worked on without those from it on."""
        inside = self.start < row < self.stop and isinstance(self.value, Operated)
        return not inside or can_cut(self.cuts, row - self.start)


def operated(edits: Sequence[Edit]) -> bool:
    """Whether any of the edits is an operator."""
    return any(isinstance(edit.value, Operated) for edit in edits)


def slabs(spec: TensorSpec, edits: Sequence[Edit]) -> Iterator[tuple[int, int]]:
    """The row ranges in which workers may take a tensor, in order; one, empty, of an empty tensor.

    Each is a whole number of blocks, so that slabs do not change a result's bits. With an
    operator they are smaller, and end where all operators may be parted; the tensor is one
    slab if one of them sees all of it.
    """
    count = (spec.shape[0] if spec.shape else 1) if spec.size else 0
    if operated(edits):
        yield from _parts(count, max(1, OPERATED_ELEMENTS // max(1, prod(spec.shape[1:]))), edits)
        return
    step = block_rows(spec) * max(1, SLAB_ELEMENTS // BLOCK_ELEMENTS)
    for start in range(0, max(count, 1), step):
        yield start, min(start + step, count)


def _parts(count: int, step: int, edits: Sequence[Edit]) -> Iterator[tuple[int, int]]:
    """Runs of ``step`` rows, less where operators may be parted only before, more where only behind."""
    start = 0
    while start < count or not start:
        ahead = chain(range(min(start + step, count), start, -1), range(start + step + 1, count))
        stop = next((row for row in ahead if all(edit.parted_at(row) for edit in edits)), count)
        yield start, stop
        start = max(stop, 1)


def block_rows(spec: TensorSpec) -> int:
    """Rows of a block: one at least, whatever their width."""
    return max(1, BLOCK_ELEMENTS // max(1, prod(spec.shape[1:])))


def added(edits: Sequence[Edit], start: int, stop: int) -> Iterator[tuple[int, Delta]]:
    """What falls on rows ``[start, stop)``: first row and delta, of equal rows and inputs one sum."""
    by_rows: dict[tuple[int, int, int], list[Delta]] = {}
    for edit in edits:
        first, last = max(edit.start, start), min(edit.stop, stop)
        if first < last and isinstance(edit.value, Delta):
            part = edit.value.rows(first - edit.start, last - edit.start)
            by_rows.setdefault((first, last, part.columns), []).append(part)
    for (first, *_), deltas in by_rows.items():
        yield first, deltas[0].joined(*deltas[1:])


def touching(edits: Sequence[Edit], start: int, stop: int) -> str | None:
    """The first module whose delta falls on rows ``[start, stop)``."""
    return next((str(e.module) for e in edits if e.start < stop and start < e.stop), None)
