"""A checkpoint that is never in memory whole, and the deltas to be added to it.

``merge`` only notes what is to be added where; the sum is made when the bytes of a
tensor are asked for, block of rows by block of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod

import torch
from torch import Tensor

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.checkpoints.edits import Edit, operated, slabs
from lorapipe.weights.checkpoints.making import Maker
from lorapipe.weights.checkpoints.quantised import new_scales
from lorapipe.weights.inference.binding import Binding, Bound
from lorapipe.weights.inference.cuts import NOWHERE
from lorapipe.weights.inference.operating import cuts_of
from lorapipe.weights.inference.output import saved_dtype
from lorapipe.weights.inference.steps import merge_spec
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import CheckpointSpec
from lorapipe.weights.structures.delta import Delta
from lorapipe.weights.tensors import to_bytes, torch_dtype

__all__ = ["Checkpoint", "merge"]


def _ignore(count: int) -> None:
    pass


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint's spec, where its bytes are, and each tensor's edits in their order.

    ``edits`` goes by the file's own key, as ``spec.tensors`` does.
    """

    spec: CheckpointSpec
    source: TensorSource
    edits: Mapping[str, tuple[Edit, ...]] = field(default_factory=dict)

    def slabs(self, key: str) -> Iterator[tuple[int, int]]:
        """The row ranges in which workers may take a tensor; see :func:`~.edits.slabs`."""
        return slabs(self.spec.tensors[key], self.edits.get(key, ()))

    def chunks(
        self,
        key: str,
        dtype: str | None = None,
        *,
        slab: tuple[int, int] | None = None,
        compute: str = "float64",
        device: str = "cpu",
        rescaled: Callable[[str], Tensor] | None = None,
        underflow: Callable[[int], None] = _ignore,
    ) -> Iterator[bytearray | memoryview]:
        """The bytes of a tensor, or of one of its slabs, as they are to be written.

        ``dtype`` is a safetensors name, or ``None`` to keep each tensor's own; it casts
        floating tensors only. A tensor without edits whose dtype stays is copied as bytes
        and not looked at. With edits every value is ``W + sum c * up @ down``, summed in
        ``compute`` (``float64`` or ``float32``) and rounded once; a scaled fp8 weight is
        multiplied out first and, where the dtype is kept, gets the scales that ``rescaled``
        (by default :meth:`rescaled` itself) finds. ``underflow`` is told how many non-zero
        values became zero.

        Raises :class:`BuildError` ``not-finite`` or ``overflow``, the module named.
        """
        maker = self._maker(compute, device)
        target = saved_dtype(self.spec.tensors[key], dtype)
        find = rescaled or partial(self.rescaled, compute=compute, device=device)
        if dtype is None and (weight := self._rescaled_by(key)) is not None:
            yield to_bytes(find(weight))
            return
        for start, stop in self.slabs(key) if slab is None else [slab]:
            scaled = key in self.spec.scales
            if key not in self.edits and (
                dtype is None if scaled else target == self.spec.tensors[key].dtype
            ):
                yield maker.read(key, start, stop)
                continue
            scales = find(key) if scaled and dtype is None else None
            for rounded in maker.rounded(key, start, stop, target, scales):
                underflow(rounded.underflowed)
                yield to_bytes(rounded.tensor)

    def values(
        self, key: str, start: int, stop: int, *, compute: str = "float64", device: str = "cpu"
    ) -> Iterator[tuple[int, Tensor]]:
        """Rows ``[start, stop)`` of a tensor in ``compute``, edits and all, and never rounded.

        Block by block, each with its first row: ``[n, I*k]``, which the caller may write to.
        """
        maker, whole = self._maker(compute, device), operated(self.edits.get(key, ()))
        for low, high in self.slabs(key):
            first, last = max(start, low), min(stop, high)
            if first >= last:
                continue
            # An operator works on its slab or not at all.
            for row, rows in maker.values(key, *((low, high) if whole else (first, last))):
                begin, end = max(row, first), min(row + len(rows), last)
                yield begin, rows[begin - row : end - row]

    def rows(
        self, key: str, start: int, stop: int, *, compute: str = "float64", device: str = "cpu"
    ) -> Tensor:
        """What :meth:`values` gives, in one matrix ``[stop - start, I*k]``."""
        columns = prod(self.spec.tensors[key].shape[1:])
        matrix = torch.empty(stop - start, columns, dtype=torch_dtype(compute), device=device)
        for first, values in self.values(key, start, stop, compute=compute, device=device):
            matrix[first - start : first - start + len(values)] = values
        return matrix

    def rescaled(self, key: str, *, compute: str = "float64", device: str = "cpu") -> Tensor:
        """The new scales of a scaled fp8 weight that has edits, as its scale tensor is shaped."""
        scales = self.spec.tensors[self.spec.scales[key].key]
        found = self._maker(compute, device).largest(key)
        return new_scales(found, self.spec.tensors[key].dtype, scales.dtype).reshape(scales.shape)

    def _maker(self, compute: str, device: str) -> Maker:
        return Maker(self.spec, self.source, self.edits, torch_dtype(compute), device)

    def _rescaled_by(self, key: str) -> str | None:
        """The edited weight whose scales the tensor ``key`` holds."""
        if key not in self.spec.companions:
            return None
        return next((w for w, s in self.spec.scales.items() if s.key == key and w in self.edits), None)


def merge(
    checkpoint: Checkpoint, terms: Sequence[tuple[float, Adapter, Binding]], rule: str = "exact"
) -> Checkpoint:
    """The checkpoint with every bound module at ``weight`` times its strength; nothing is computed.

    Merges chain: later edits of a tensor come after earlier ones. A term of weight 0 adds
    nothing. ``rule`` says what a strength means to operators: see
    :data:`~lorapipe.weights.strength.RULES`.

    Raises :class:`RecipeError` as :func:`~.inference.merge_spec` does.
    """
    known = [(weight, adapter.spec, binding) for weight, adapter, binding in terms]
    spec = merge_spec(checkpoint.spec, known, rule)
    edits = {key: list(of_key) for key, of_key in checkpoint.edits.items()}
    stage = 1 + max((edit.stage for of_key in edits.values() for edit in of_key), default=-1)
    for weight, adapter, binding in terms:
        for bound in binding.bound if weight else ():
            value = adapter.modules[bound.module].scaled(weight)
            start, stop = bound.rows or (0, *(checkpoint.spec.tensors[bound.key].shape[:1] or (1,)))
            form = adapter.spec.modules[bound.module].form
            cuts = NOWHERE if form is None or form.additive else cuts_of(form, bound)
            edit = Edit(bound.module, start, stop, _placed(value, bound), stage, cuts, rule)
            edits.setdefault(bound.key, []).append(edit)
    return Checkpoint(spec, checkpoint.source, {key: tuple(of_key) for key, of_key in edits.items()})


def _placed(value: Delta | Operated, bound: Bound) -> Delta | Operated:
    """A module's value as the file's tensor takes it: some of its rows, or the transpose."""
    value = value.rows(*bound.part) if bound.part else value
    return value.transposed() if bound.transposed else value
