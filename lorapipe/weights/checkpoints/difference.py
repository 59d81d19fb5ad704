"""Weighted sums of checkpoints' weights, and how much of them is nothing but rounding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.blocks import OPERATED_ELEMENTS
from lorapipe.weights.checkpoints.checkpoint import Checkpoint
from lorapipe.weights.inference.reference import takes
from lorapipe.weights.tensors import all_finite, torch_dtype

__all__ = ["Difference", "Side", "Taker", "blocks"]

_DIGITS: Mapping[str, tuple[int, int]] = {
    "F64": (52, -1022), "F32": (23, -126), "F16": (10, -14), "BF16": (7, -126),
    "F8_E4M3": (3, -6), "F8_E5M2": (2, -14),
}  # fmt: skip
"""Of a dtype the binary digits behind the point, and the least exponent that has them all."""

_MEAN_SQUARE = 0.541 / 12
"""Of a rounding error, in units of ``2**-digits`` of the number: ``E[1 / m^2] / 12`` for ``m`` in [1, 2),
its logarithm uniform, since the step between numbers is ``2**-digits / m`` of the number."""

_SLACK = 64.0
"""Roundings, in units of one, that a computed number may have behind it: far more than it has."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """A checkpoint with its weight in the sum; ``rounded`` says that the sum inherits its rounding."""

    name: str
    weight: float
    checkpoint: Checkpoint
    rounded: bool


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """A sum ``[O, I*k]``, its greatest magnitude, and the spectral norm that rounding alone may have."""

    matrix: Tensor
    largest: float
    rounding: float


@dataclass(frozen=True, slots=True, eq=False)
class Taker:
    """Takes ``sum_i w_i W_i`` of reference weights, in ``compute`` and in the order of ``sides``."""

    sides: Sequence[Side]
    compute: str = "float64"
    device: str = "cpu"

    def unchanged(self, key: str) -> bool:
        """Whether the sum is 0 without a look: tensors of one file, untouched, and weights that cancel."""
        first = self.sides[0].checkpoint
        return sum(side.weight for side in self.sides) == 0.0 and all(
            side.checkpoint.source is first.source
            and side.checkpoint.spec.keys[key] == first.spec.keys[key]
            and not any(place.key in side.checkpoint.edits for place in first.spec.keys[key])
            for side in self.sides
        )

    def unrounded(self, key: str) -> bool:
        """Whether the sum inherits no rounding but that of the arithmetic: that of merges, not saved."""
        return all(
            place.key in side.checkpoint.edits
            for side in self.sides
            for place in side.checkpoint.spec.keys[key]
            if side.rounded
        )

    def take(self, key: str, ranges: Sequence[tuple[int, int]], columns: int) -> Difference:
        """The sum on rows of a reference weight, one range below the other.

        A component of it that is smaller than ``rounding`` cannot be told from the rounding of
        the numbers that the sides have. A side's stored number ``w`` is off by a step of its
        dtype over sqrt(12) in the mean; where there are edits, nothing was rounded yet but to
        ``compute``. Independent errors ``e_ij`` of mean 0 have a spectral norm of little more than
        ``max_i sqrt(sum_j E e_ij^2) + max_j sqrt(sum_i E e_ij^2)``, and much more is rare.
        Where the sum is 0 nothing was rounded.

        *Source*: Bandeira and van Handel, "Sharp nonasymptotic bounds on the norm of random
        matrices with independent entries", Ann. Probab. 44(4), 2016, theorem 1.1. Held
        against the errors of fp16 rounding of matrices of 20 to 1280 rows, with rows and
        columns of one scale and of many, the sum is 1.1 to 2.2 times the norm found.

        Raises :class:`BuildError` ``not-finite``, the checkpoint named.
        """
        matrix, errors = self._summed(key, ranges, columns)
        largest = max(map(abs, _extremes(matrix)))
        if not isfinite(largest):
            raise self._not_finite(key, ranges)
        return Difference(matrix, largest, errors.norm())

    def largest(self, key: str, shape: tuple[int, ...]) -> float:
        """The greatest magnitude of the sum on a whole weight, some rows in memory at a time.

        Where it is no number, for NaN on one side or on both, it is nothing here.
        """
        columns, found = prod(shape[1:]), 0.0
        step, height = max(1, OPERATED_ELEMENTS // max(1, columns)), shape[0] if shape else 1
        for start in range(0, height if columns else 0, step):
            matrix, _ = self._summed(key, [(start, min(start + step, height))], columns)
            found = max(found, *map(abs, _extremes(matrix.nan_to_num_(0.0, 0.0, 0.0))))
        return found

    def _summed(self, key: str, ranges: Sequence[tuple[int, int]], columns: int) -> tuple[Tensor, _Errors]:
        height = sum(stop - start for start, stop in ranges)
        dtype = torch_dtype(self.compute)
        matrix = torch.zeros(height, columns, dtype=dtype, device=self.device)
        errors = _Errors(matrix)
        for side in self.sides:
            for place, block, steps in self._blocks(side, key, ranges):
                target = matrix[place]
                target.add_(block, alpha=side.weight)
                errors.add(place, target, block.mul_(side.weight), steps)
        return matrix, errors

    def _blocks(
        self, side: Side, key: str, ranges: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[tuple[slice, slice], Tensor, tuple[float, float]]]:
        """A side's numbers block by block: where in the sum they belong, and their rounding's squares."""
        for file_key, place, values in blocks(side.checkpoint, key, ranges, self.compute, self.device):
            yield place, values, self._steps(side, file_key)

    def _steps(self, side: Side, key: str) -> tuple[float, float]:
        """Mean squares of a number's error: in units of the number's own square, and what it is at least."""
        digits = 52 if self.compute == "float64" else 23
        relative, least = _MEAN_SQUARE * (_SLACK * 2.0**-digits) ** 2, 0.0
        if side.rounded and key not in side.checkpoint.edits:
            digits, exponent = _DIGITS[side.checkpoint.spec.tensors[key].dtype]
            relative += _MEAN_SQUARE * 4.0**-digits
            if key not in side.checkpoint.spec.scales:
                least = (side.weight * 2.0 ** (exponent - digits)) ** 2 / 12
        return relative, least

    def _not_finite(self, key: str, ranges: Sequence[tuple[int, int]]) -> BuildError:
        for side in self.sides:
            for _, block, _ in self._blocks(side, key, ranges):
                if not all_finite(block):
                    return BuildError(
                        "not-finite",
                        f"the weight of '{side.name}' holds NaN or Inf",
                        hint="the checkpoint is damaged",
                    )
        return BuildError("not-finite", "the difference is beyond the range of the arithmetic")


def blocks(
    checkpoint: Checkpoint, key: str, ranges: Sequence[tuple[int, int]], compute: str, device: str
) -> Iterator[tuple[str, tuple[slice, slice], Tensor]]:
    """A reference weight's rows, one range below the other, as the file's tensors have them.

    For each block the tensor's key, the block's place in the matrix of all these rows, and its
    values in ``compute``, which the caller may write to.
    """
    row = 0
    for start, stop in ranges:
        for take in takes(checkpoint.spec, key, start, stop):
            first, height = row + take.first, take.stop - take.start
            low, high = take.start, take.stop
            if take.transposed:
                low, high = 0, checkpoint.spec.tensors[take.key].shape[0]
            for at, values in checkpoint.values(take.key, low, high, compute=compute, device=device):
                begin, end = first + at - low, first + at - low + len(values)
                if take.transposed:
                    place = (slice(first, first + height), slice(at, at + len(values)))
                    yield take.key, place, values[:, take.start : take.stop].T
                else:
                    yield take.key, (slice(begin, end), slice(None)), values
        row += stop - start


def _extremes(matrix: Tensor) -> tuple[float, float]:
    low, high = torch.aminmax(matrix)
    return float(low), float(high)


class _Errors:
    """Mean squares of the errors in a sum, added up over its rows and over its columns."""

    def __init__(self, matrix: Tensor) -> None:
        self._rows = matrix.new_zeros(matrix.shape[0])
        self._columns = matrix.new_zeros(matrix.shape[1])

    def add(
        self, place: tuple[slice, slice], total: Tensor, block: Tensor, steps: tuple[float, float]
    ) -> None:
        """Count those of ``block`` where ``total``, the sum so far, is not 0; ``block`` is used up."""
        relative, least = steps
        squares = block.square_().mul_(relative).add_(least).mul_(total != 0)
        self._rows[place[0]] += squares.sum(dim=1)
        self._columns[place[1]] += squares.sum(dim=0)

    def norm(self) -> float:
        return float(self._rows.max().sqrt() + self._columns.max().sqrt())
