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
from lorapipe.weights.borders import inside
from lorapipe.weights.delta import Delta, LowRank
from lorapipe.weights.inference import merge_spec
from lorapipe.weights.output import saved_dtype
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import CheckpointSpec, ModuleId, TensorSpec
from lorapipe.weights.tensors import Rounded, from_bytes, round_to, to_bytes, torch_dtype

__all__ = ["BLOCK_ELEMENTS", "PIECE_BYTES", "Checkpoint", "Edit", "merge"]

BLOCK_ELEMENTS = 2**22
"""Elements summed at a time. A product's last bits can depend on how many rows it has,
so the size is the same on every machine."""

PIECE_BYTES = 2**24
"""Bytes of an untouched tensor that are copied at a time."""


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

    def chunks(
        self,
        key: str,
        dtype: str | None = None,
        *,
        compute: str = "float64",
        device: str = "cpu",
        underflow: Callable[[int], None] = _ignore,
    ) -> Iterator[bytearray | memoryview]:
        """The bytes of tensor ``key`` as they are to be written, piece by piece.

        ``dtype`` is a safetensors name, or ``None`` to keep each tensor's own; it casts
        floating tensors only. A tensor without edits whose dtype stays is copied as bytes
        and not looked at. With edits every value is ``W + sum c * up @ down``, summed in
        ``compute`` (``float64`` or ``float32``) and rounded once. ``underflow`` is told
        how many non-zero values became zero.

        Raises :class:`BuildError` ``not-finite`` or ``overflow``, the module named.
        """
        spec = self.spec.tensors[key]
        target = saved_dtype(spec, dtype)
        if key in self.edits:
            blocks = self._summed(key, target, torch_dtype(compute), device)
        elif target == spec.dtype:
            yield from self._copied(key)
            return
        else:
            blocks = self._cast(key, target)
        for rounded in blocks:
            underflow(rounded.underflowed)
            yield to_bytes(rounded.tensor)

    def _copied(self, key: str) -> Iterator[bytearray]:
        spec = self.spec.tensors[key]
        elements = PIECE_BYTES * spec.size // max(spec.nbytes, 1)
        for start, stop in _blocks(spec, elements):
            yield self._read(key, start, stop)

    def _cast(self, key: str, target: str) -> Iterator[Rounded]:
        for start, stop in _blocks(self.spec.tensors[key], BLOCK_ELEMENTS):
            with inside(key):
                rounded = round_to(self._tensor(key, start, stop), target, pass_non_finite=True)
            yield rounded

    def _summed(self, key: str, target: str, compute: torch.dtype, device: str) -> Iterator[Rounded]:
        prepared = [(edit, edit.delta.stacked(compute).to(device)) for edit in self.edits[key]]
        for start, stop in _blocks(self.spec.tensors[key], BLOCK_ELEMENTS):
            base = self._tensor(key, start, stop).to(device)
            block = base.to(compute, copy=True)
            rows = block.reshape(stop - start, -1)
            for edit, factors in prepared:
                _add(rows, start, edit, factors)
            yield _rounded(block, base, target, key, _touching(self.edits[key], start, stop))

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


def _blocks(spec: TensorSpec, elements: int) -> Iterator[tuple[int, int]]:
    """Row ranges of about ``elements`` elements, one row at least; a 0-d tensor is one row."""
    if not spec.size:
        return
    count = spec.shape[0] if spec.shape else 1
    step = max(1, elements // prod(spec.shape[1:]))
    for start in range(0, count, step):
        yield start, min(start + step, count)


def _add(rows: Tensor, first: int, edit: Edit, factors: LowRank) -> None:
    """Add in place the part of an edit that falls on ``rows``, which begin at row ``first``."""
    start, stop = max(first, edit.start), min(first + rows.shape[0], edit.stop)
    if start < stop:
        up = factors.up[start - edit.start : stop - edit.start]
        rows[start - first : stop - first].addmm_(up, factors.down)


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
