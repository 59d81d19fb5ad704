"""The values of a checkpoint with edits, made block by block as their bytes are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.borders import inside
from lorapipe.weights.checkpoints.edits import Edit, added, block_rows, operated, slabs, touching
from lorapipe.weights.checkpoints.quantised import dequantised, largest, unscaled
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import CheckpointSpec, TensorSpec
from lorapipe.weights.structures.delta import Addend
from lorapipe.weights.tensors import Rounded, all_finite, from_bytes, moved, round_to

__all__ = ["Maker"]


@dataclass(frozen=True, slots=True, eq=False)
class Maker:
    """Makes a checkpoint's values: read, multiplied out, edited, rounded, a block at a time.

    ``edits`` goes by the file's own key. Memory is some blocks, whatever the tensor, and a slab
    where an operator works.
    """

    spec: CheckpointSpec
    source: TensorSource
    edits: Mapping[str, tuple[Edit, ...]]
    compute: torch.dtype
    device: str

    def rounded(
        self, key: str, start: int, stop: int, target: str, scales: Tensor | None
    ) -> Iterator[Rounded]:
        """Rows ``[start, stop)`` in ``target``, divided by their new ``scales`` if there are any."""
        edits = self.edits.get(key)
        if edits is None and key not in self.spec.scales:
            with inside(key):
                for first, last in self._blocks(key, start, stop):
                    yield round_to(self.tensor(key, first, last), target, pass_non_finite=True)
            return
        grid = None if scales is None else self._grid(key, scales)
        for first, base, values in self._values(key, start, stop):
            block = values
            if grid is not None:
                block = unscaled(values, grid, self.spec.scales[key].block, first)
            module = touching(edits or (), first, first + len(values))
            yield _rounded(self._shaped(key, block), base, target, key, module)

    def values(self, key: str, start: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        """Rows ``[start, stop)`` as they are before any rounding: the first of a block, and ``[n, I*k]``."""
        for first, _, values in self._values(key, start, stop):
            yield first, values

    def largest(self, key: str) -> Tensor:
        """The greatest magnitude of each block of a scaled weight, edits and all: ``[a, b]``."""
        block, shape = self.spec.scales[key].block, self.spec.tensors[key].shape
        found = torch.zeros(-(-shape[0] // block[0]), -(-prod(shape[1:]) // block[1]), dtype=self.compute)
        for start, stop in slabs(self.spec.tensors[key], self.edits.get(key, ())):
            for first, _, values in self._values(key, start, stop):
                largest(values.to("cpu"), block, first, found)
        return found

    def _values(self, key: str, start: int, stop: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Blocks of rows: the first row, the tensor as it is in the file, the sum ``[n, I*k]``."""
        edits = self.edits.get(key, ())
        if operated(edits):
            base, values = self._operated(key, start, stop)
            for first in range(0, len(values), block_rows(self.spec.tensors[key])):
                part = slice(first, first + block_rows(self.spec.tensors[key]))
                yield start + first, base if base.ndim == 0 else base[part], values[part]
            return
        prepared = [
            (first, part.shape[0], part.addend(self.compute, self.device))
            for first, part in added(edits, start, stop)
        ]
        grid = self._scales(key)
        for first, last in self._blocks(key, start, stop):
            base, values = self._opened(key, first, last, grid)
            for row, height, addend in prepared:
                _add(values, first, row, height, addend)
            yield first, base, values

    def _operated(self, key: str, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """A slab as it is in the file and after its edits, stage by stage: the deltas, then the operators."""
        edits, shape = self.edits[key], self.source.tensors[key].shape
        # A tensor that is to be padded is one slab, and may have fewer rows in the file.
        last = min(stop, *shape[:1]) if shape else stop
        base, rows = self._opened(key, start, last, self._scales(key))
        values = rows.reshape(-1, *shape[1:]) if shape else rows.reshape(())
        for stage in sorted({edit.stage for edit in edits}):
            now = [edit for edit in edits if edit.stage == stage]
            flat = _flat(values)
            for row, part in added(now, start, start + len(flat)):
                _add(flat, start, row, part.shape[0], part.addend(self.compute, self.device))
            for edit in now:
                if isinstance(edit.value, Operated):
                    with inside(edit.module):
                        values = _applied(edit, edit.value, values, start, self.device)
        return base, _flat(values)

    def _scales(self, key: str) -> Tensor | None:
        """The scales ``[a, b]`` that a scaled weight has in the file."""
        known = self.spec.scales.get(key)
        return None if known is None else self._grid(key, self.tensor(known.key))

    def _opened(self, key: str, first: int, last: int, grid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rows as the file has them, and a copy ``[n, I*k]`` to work on: true values."""
        base = moved(self.tensor(key, first, last), self.device)
        rows = base.reshape(last - first, -1)
        if grid is None:
            return base, rows.to(self.compute, copy=True)
        return base, dequantised(rows, grid, self.spec.scales[key].block, first, self.compute)

    def _shaped(self, key: str, rows: Tensor) -> Tensor:
        """Rows ``[n, I*k]`` in the tensor's own shape, ``[n, I, *k]``."""
        shape = self.spec.tensors[key].shape
        return rows.reshape(len(rows), *shape[1:]) if shape else rows.reshape(())

    def _grid(self, key: str, scales: Tensor) -> Tensor:
        """Scales as ``[a, b]``, where the arithmetic is."""
        rows = self.spec.tensors[key].shape[0]
        return scales.reshape(-(-rows // self.spec.scales[key].block[0]), -1).to(self.device)

    def _blocks(self, key: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
        step = block_rows(self.spec.tensors[key])
        for first in range(start, stop, step):
            yield first, min(first + step, stop)

    def read(self, key: str, start: int, stop: int) -> bytearray:
        return self.source.read(key, start, stop) if self.spec.tensors[key].shape else self.source.read(key)

    def tensor(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows ``[start, stop)`` of a tensor as the source has them, without edits."""
        spec = self.source.tensors[key]
        stop = (spec.shape[0] if spec.shape else 1) if stop is None else stop
        shape = (stop - start, *spec.shape[1:]) if spec.shape else ()
        return from_bytes(self.read(key, start, stop), TensorSpec(spec.dtype, shape))


def _add(rows: Tensor, first: int, row: int, height: int, addend: Addend) -> None:
    """Add in place what of a delta on rows ``[row, row + height)`` falls on ``rows``, from ``first`` on.

    A delta of fewer inputs is for the first ones.
    """
    start, stop = max(first, row), min(first + rows.shape[0], row + height)
    if start < stop:
        addend.add_to(rows[start - first : stop - first, : addend.columns], start - row, stop - row)


def _applied(edit: Edit, value: Operated, values: Tensor, first: int, device: str) -> Tensor:
    """``values``, rows of a tensor from ``first`` on, with an operator's own rows changed."""
    height = len(values) if values.ndim else 1
    start, stop = max(edit.start, first), min(edit.stop, first + height)
    if start >= stop:
        return values
    if (start, stop) != (edit.start, edit.stop):
        value = value.rows(start - edit.start, stop - edit.start)
    operator = value.read().to(device)
    if (start, stop) == (first, first + height):
        return operator.apply(values, value.strength, edit.rule).contiguous()
    rows = slice(start - first, stop - first)
    values[rows] = operator.apply(values[rows], value.strength, edit.rule)
    return values


def _flat(values: Tensor) -> Tensor:
    """A tensor as ``[n, columns]``; a single number as one row."""
    return values.reshape(len(values) if values.ndim else 1, -1)


def _rounded(block: Tensor, base: Tensor, target: str, key: str, module: str | None) -> Rounded:
    try:
        with inside(module or key):
            return round_to(block, target)
    except BuildError as error:
        if error.code == "not-finite" and not all_finite(base):
            raise BuildError(
                "not-finite",
                "the checkpoint's own tensor holds NaN or Inf where a LoRA is to be added",
                module=key,
                hint="the checkpoint is damaged",
            ) from None
        raise
