"""How far two checkpoints are from each other, weight by weight, in whatever layouts they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod, sqrt

import torch
from torch import Tensor

from lorapipe.weights.blocks import OPERATED_ELEMENTS
from lorapipe.weights.borders import inside
from lorapipe.weights.checkpoints.checkpoint import Checkpoint
from lorapipe.weights.checkpoints.difference import blocks
from lorapipe.weights.distances import Distance
from lorapipe.weights.each import Each, serial
from lorapipe.weights.inference.reference import whole_shape
from lorapipe.weights.specs import FLOATING, CheckpointSpec, canonical_shape
from lorapipe.weights.tensors import torch_dtype

__all__ = ["comparable", "distances", "unequal"]


def comparable(old: CheckpointSpec, new: CheckpointSpec) -> tuple[str, ...]:
    """The reference keys that both have of one shape; others came, went or changed their shape."""
    return tuple(key for key in old.keys if key in new.keys and _shape(old, key) == _shape(new, key))


def distances(
    old: Checkpoint, new: Checkpoint, *, compute: str = "float64", each: Each = serial
) -> dict[str, Distance]:
    """The distance of each weight that both have, by its reference key; some rows in memory at a time.

    Scaled fp8 weights are multiplied out, and their scales left out; whole numbers and what is
    quantised otherwise have no distance: see :func:`unequal`. NaN and infinity make a distance
    infinite, unless both have the same bytes.
    """
    pair = _Pair(old, new, torch_dtype(compute), compute)
    keys = [key for key in comparable(old.spec, new.spec) if pair.floating(key)]
    return dict(zip(keys, each(pair.distance, keys), strict=True))


def unequal(old: Checkpoint, new: Checkpoint) -> tuple[str, ...]:
    """The reference keys of what has no distance, but other bytes in the one than in the other."""
    pair = _Pair(old, new, torch.float64, "float64")
    keys = (key for key in comparable(old.spec, new.spec) if not pair.floating(key))
    return tuple(key for key in keys if not all(pair.same_bytes(key, *rows) for rows in pair.rows(key)))


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    old: Checkpoint
    new: Checkpoint
    dtype: torch.dtype
    compute: str

    def distance(self, key: str) -> Distance:
        with inside(key):
            return self._measured(key)

    def _measured(self, key: str) -> Distance:
        shape = whole_shape(self.old.spec, key) or ()
        columns = prod(shape[1:])
        before = after = apart = 0.0
        for start, stop in self.rows(key):
            one = self._values(self.old, key, start, stop, columns)
            size = _square(one)
            before += size
            if self.same_bytes(key, start, stop):
                after += size
                continue
            two = self._values(self.new, key, start, stop, columns)
            after += _square(two)
            apart += _square(one.sub_(two))
        norms = (sqrt(square) if square == square else float("inf") for square in (before, after, apart))  # noqa: PLR0124  # NaN alone is not itself
        return Distance(*norms)

    def rows(self, key: str) -> Iterator[tuple[int, int]]:
        """Rows to take at a time; a transposed weight is read whole for any of them."""
        shape = whole_shape(self.old.spec, key) or ()
        height = shape[0] if shape else 1
        turned = any(p.transposed for side in (self.old, self.new) for p in side.spec.keys[key])
        step = height if turned else max(1, OPERATED_ELEMENTS // max(1, prod(shape[1:])))
        for start in range(0, height, max(1, step)):
            yield start, min(start + step, height)

    def _values(self, side: Checkpoint, key: str, start: int, stop: int, columns: int) -> Tensor:
        rows = torch.zeros(stop - start, columns, dtype=self.dtype)
        for _, place, values in blocks(side, key, [(start, stop)], self.compute, "cpu"):
            rows[place] = values
        return rows

    def same_bytes(self, key: str, start: int, stop: int) -> bool:
        """Whether a look at the files shows the rows to be the same, both having the weight in one way."""
        (first, *more), (second, *further) = self.old.spec.keys[key], self.new.spec.keys[key]
        mine, theirs = self.old.spec.tensors[first.key], self.new.spec.tensors[second.key]
        alike = not more and not further and mine == theirs and (first.rows, first.first) == (None, 0)
        if not alike or (second.rows, second.first, second.transposed) != (None, 0, first.transposed):
            return False
        if first.key in self.old.spec.scales or second.key in self.new.spec.scales:
            return False
        whole = not mine.shape or first.transposed
        rows = (0, None) if whole else (start, stop)
        return self.old.source.read(first.key, *rows) == self.new.source.read(second.key, *rows)

    def floating(self, key: str) -> bool:
        """Whether both sides' numbers are floating ones, and no scales of others."""
        return key not in self.old.spec.frozen and all(
            side.spec.tensors[place.key].dtype in FLOATING and place.key not in side.spec.companions
            for side in (self.old, self.new)
            for place in side.spec.keys[key]
        )


def _shape(spec: CheckpointSpec, key: str) -> tuple[int, ...] | None:
    shape = whole_shape(spec, key)
    return None if shape is None else canonical_shape(shape)


def _square(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values)) ** 2
