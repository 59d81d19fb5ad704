"""A checkpoint that is never in memory whole, and the deltas to be added to it.

``merge`` only notes what is to be added where; the sum is made when the bytes of a
tensor are asked for, block of rows by block of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.adapter import Adapter
from lorapipe.weights.binding import Binding
from lorapipe.weights.blocks import BLOCK_ELEMENTS, SLAB_ELEMENTS
from lorapipe.weights.borders import inside
from lorapipe.weights.delta import Delta, LowRank
from lorapipe.weights.inference import merge_spec
from lorapipe.weights.output import saved_dtype
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import CheckpointSpec, ModuleId, TensorSpec
from lorapipe.weights.tensors import Rounded, from_bytes, round_to, to_bytes, torch_dtype

__all__ = ["Checkpoint", "Edit", "merge"]


def _ignore(count: int) -> None:
    pass


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """A delta to be added to rows ``[start, stop)`` of a tensor; its weight is in it."""

    module: ModuleId
    start: int
    stop: int
    delta: Delta


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint's spec, where its bytes are, and each tensor's edits in their order.

    ``edits`` goes by the file's own key, as ``spec.tensors`` does.
    """

    spec: CheckpointSpec
    source: TensorSource
    edits: Mapping[str, tuple[Edit, ...]] = field(default_factory=dict)

    def slabs(self, key: str) -> Iterator[tuple[int, int]]:
        """The row ranges in which workers may take a tensor, in order; one, empty, of an empty tensor.

        Each is a whole number of blocks, so that slabs do not change a result's bits.
        """
        spec = self.spec.tensors[key]
        count = (spec.shape[0] if spec.shape else 1) if spec.size else 0
        step = _block_rows(spec) * max(1, SLAB_ELEMENTS // BLOCK_ELEMENTS)
        for start in range(0, max(count, 1), step):
            yield start, min(start + step, count)

    def chunks(
        self,
        key: str,
        dtype: str | None = None,
        *,
        slab: tuple[int, int] | None = None,
        compute: str = "float64",
        device: str = "cpu",
        underflow: Callable[[int], None] = _ignore,
    ) -> Iterator[bytearray | memoryview]:
        """The bytes of a tensor, or of one of its slabs, as they are to be written.

        ``dtype`` is a safetensors name, or ``None`` to keep each tensor's own; it casts
        floating tensors only. A tensor without edits whose dtype stays is copied as bytes
        and not looked at. With edits every value is ``W + sum c * up @ down``, summed in
        ``compute`` (``float64`` or ``float32``) and rounded once. ``underflow`` is told
        how many non-zero values became zero.

        Raises :class:`BuildError` ``not-finite`` or ``overflow``, the module named.
        """
        target = saved_dtype(self.spec.tensors[key], dtype)
        for start, stop in self.slabs(key) if slab is None else [slab]:
            if key in self.edits:
                blocks = self._summed(key, start, stop, target, torch_dtype(compute), device)
            elif target == self.spec.tensors[key].dtype:
                yield self._read(key, start, stop)
                continue
            else:
                blocks = self._cast(key, start, stop, target)
            for rounded in blocks:
                underflow(rounded.underflowed)
                yield to_bytes(rounded.tensor)

    def _cast(self, key: str, start: int, stop: int, target: str) -> Iterator[Rounded]:
        with inside(key):
            for first, last in self._blocks(key, start, stop):
                yield round_to(self._tensor(key, first, last), target, pass_non_finite=True)

    def _summed(
        self, key: str, start: int, stop: int, target: str, compute: torch.dtype, device: str
    ) -> Iterator[Rounded]:
        edits = self.edits[key]
        prepared = [
            (first, factors.stacked(compute).to(device)) for first, factors in _added(edits, start, stop)
        ]
        for first, last in self._blocks(key, start, stop):
            base = self._tensor(key, first, last).to(device)
            block = base.to(compute, copy=True)
            rows = block.reshape(last - first, -1)
            for row, factors in prepared:
                _add(rows, first, row, factors)
            yield _rounded(block, base, target, key, _touching(edits, first, last))

    def _blocks(self, key: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
        step = _block_rows(self.spec.tensors[key])
        for first in range(start, stop, step):
            yield first, min(first + step, stop)

    def _read(self, key: str, start: int, stop: int) -> bytearray:
        return self.source.read(key, start, stop) if self.spec.tensors[key].shape else self.source.read(key)

    def _tensor(self, key: str, start: int, stop: int) -> Tensor:
        spec = self.spec.tensors[key]
        shape = (stop - start, *spec.shape[1:]) if spec.shape else ()
        return from_bytes(self._read(key, start, stop), TensorSpec(spec.dtype, shape))


def merge(checkpoint: Checkpoint, terms: Sequence[tuple[float, Adapter, Binding]]) -> Checkpoint:
    """The checkpoint with ``weight * delta`` of every bound module added; nothing is computed.

    Merges chain: later edits of a tensor come after earlier ones. A term of weight 0 adds
    nothing. Raises :class:`RecipeError` ``nothing-left`` when no edit is left.
    """
    spec = merge_spec(checkpoint.spec, [(weight, adapter.spec, bound) for weight, adapter, bound in terms])
    edits = {key: list(of_key) for key, of_key in checkpoint.edits.items()}
    for weight, adapter, binding in terms:
        for bound in binding.bound if weight else ():
            start, stop = bound.rows or (0, checkpoint.spec.tensors[bound.key].shape[0])
            delta = adapter.modules[bound.module].scaled(weight)
            edits.setdefault(bound.key, []).append(Edit(bound.module, start, stop, delta))
    return Checkpoint(spec, checkpoint.source, {key: tuple(of_key) for key, of_key in edits.items()})


def _block_rows(spec: TensorSpec) -> int:
    """Rows of a block: one at least, whatever their width."""
    return max(1, BLOCK_ELEMENTS // max(1, prod(spec.shape[1:])))


def _added(edits: Sequence[Edit], start: int, stop: int) -> Iterator[tuple[int, Delta]]:
    """What falls on rows ``[start, stop)``: first row and delta, of equal rows one sum."""
    by_rows: dict[tuple[int, int], list[Delta]] = {}
    for edit in edits:
        first, last = max(edit.start, start), min(edit.stop, stop)
        if first < last:
            part = edit.delta.rows(first - edit.start, last - edit.start)
            by_rows.setdefault((first, last), []).append(part)
    for (first, _), deltas in by_rows.items():
        yield first, deltas[0].joined(*deltas[1:])


def _add(rows: Tensor, first: int, row: int, factors: LowRank) -> None:
    """Add in place what of a delta from ``row`` on falls on ``rows``, which begin at ``first``."""
    start, stop = max(first, row), min(first + rows.shape[0], row + factors.up.shape[0])
    if start < stop:
        rows[start - first : stop - first].addmm_(factors.up[start - row : stop - row], factors.down)


def _touching(edits: Sequence[Edit], start: int, stop: int) -> str | None:
    """The first module whose delta falls on rows ``[start, stop)``."""
    return next((str(e.module) for e in edits if e.start < stop and start < e.stop), None)


def _rounded(block: Tensor, base: Tensor, target: str, key: str, module: str | None) -> Rounded:
    try:
        with inside(module or key):
            return round_to(block, target)
    except BuildError as error:
        if error.code == "not-finite" and not bool(torch.isfinite(base.to(torch.float32)).all()):
            raise BuildError(
                "not-finite",
                "the checkpoint's own tensor holds NaN or Inf where a LoRA is to be added",
                module=key,
                hint="the checkpoint is damaged",
            ) from None
        raise
