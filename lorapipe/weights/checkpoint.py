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
from lorapipe.weights.binding import Binding, Bound
from lorapipe.weights.blocks import BLOCK_ELEMENTS, SLAB_ELEMENTS
from lorapipe.weights.borders import inside
from lorapipe.weights.delta import Addend, Delta
from lorapipe.weights.inference import merge_spec
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.output import saved_dtype
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import CheckpointSpec, ModuleId, TensorSpec
from lorapipe.weights.tensors import Rounded, from_bytes, round_to, to_bytes, torch_dtype

__all__ = ["Checkpoint", "Edit", "merge"]


def _ignore(count: int) -> None:
    pass


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """What a module does to rows ``[start, stop)`` of a tensor; its weight is in it.

    The ``stage`` counts merges: an operator sees the weight after all edits of earlier
    stages and all deltas of its own. ``transposed``: the tensor is the weight's transpose.
    """

    module: ModuleId
    start: int
    stop: int
    value: Delta | Operated
    stage: int = 0
    transposed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint's spec, where its bytes are, and each tensor's edits in their order.

    ``edits`` goes by the file's own key, as ``spec.tensors`` does. ``rule`` is what a
    strength means to operators: see :data:`~.operators.operator.RULES`.
    """

    spec: CheckpointSpec
    source: TensorSource
    edits: Mapping[str, tuple[Edit, ...]] = field(default_factory=dict)
    rule: str = "exact"

    def slabs(self, key: str) -> Iterator[tuple[int, int]]:
        """The row ranges in which workers may take a tensor, in order; one, empty, of an empty tensor.

        Each is a whole number of blocks, so that slabs do not change a result's bits. A
        tensor with an operator is taken whole: some see all of the weight.
        """
        spec = self.spec.tensors[key]
        count = (spec.shape[0] if spec.shape else 1) if spec.size else 0
        step = _block_rows(spec) * max(1, SLAB_ELEMENTS // BLOCK_ELEMENTS)
        if self._operated(key):
            step = max(count, 1)
        for start in range(0, max(count, 1), step):
            yield start, min(start + step, count)

    def _operated(self, key: str) -> bool:
        return any(isinstance(edit.value, Operated) for edit in self.edits.get(key, ()))

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
            if self._operated(key):
                blocks = self._operate(key, target, torch_dtype(compute), device)
            elif key in self.edits:
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
            (first, part.shape[0], part.addend(compute, device)) for first, part in _added(edits, start, stop)
        ]
        for first, last in self._blocks(key, start, stop):
            base = self._tensor(key, first, last).to(device)
            block = base.to(compute, copy=True)
            rows = block.reshape(last - first, -1)
            for row, height, addend in prepared:
                _add(rows, first, row, height, addend)
            yield _rounded(block, base, target, key, _touching(edits, first, last))

    def _operate(self, key: str, target: str, compute: torch.dtype, device: str) -> Iterator[Rounded]:
        """The whole tensor after its edits, stage by stage: the deltas, then the operators."""
        edits = self.edits[key]
        base = self._tensor(key, 0, self.spec.tensors[key].shape[0]).to(device)
        whole = base.to(compute, copy=True).reshape(base.shape[0], -1)
        for stage in sorted({edit.stage for edit in edits}):
            now = [edit for edit in edits if edit.stage == stage]
            for row, part in _added(now, 0, base.shape[0]):
                _add(whole, 0, row, part.shape[0], part.addend(compute, device))
            for edit in now:
                if isinstance(edit.value, Operated):
                    with inside(edit.module):
                        _apply(edit, edit.value, whole, self.rule, device)
        yield _rounded(whole.reshape(base.shape), base, target, key, str(edits[0].module))

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


def merge(
    checkpoint: Checkpoint, terms: Sequence[tuple[float, Adapter, Binding]], rule: str = "exact"
) -> Checkpoint:
    """The checkpoint with every bound module at ``weight`` times its strength; nothing is computed.

    Merges chain: later edits of a tensor come after earlier ones. A term of weight 0 adds
    nothing. ``rule`` says what a strength means to operators that are no deltas.

    Raises :class:`RecipeError` ``nothing-left`` when no edit is left.
    """
    spec = merge_spec(checkpoint.spec, [(weight, adapter.spec, bound) for weight, adapter, bound in terms])
    edits = {key: list(of_key) for key, of_key in checkpoint.edits.items()}
    stage = 1 + max((edit.stage for of_key in edits.values() for edit in of_key), default=-1)
    for weight, adapter, binding in terms:
        for bound in binding.bound if weight else ():
            value = adapter.modules[bound.module].scaled(weight)
            height = checkpoint.spec.tensors[bound.key].shape[0]
            edits.setdefault(bound.key, []).append(_edit(bound, value, height, stage))
    return Checkpoint(spec, checkpoint.source, {key: tuple(of_key) for key, of_key in edits.items()}, rule)


def _edit(bound: Bound, value: Delta | Operated, height: int, stage: int) -> Edit:
    start, stop = bound.rows or (0, height)
    if isinstance(value, Delta):
        value = value.rows(*bound.part) if bound.part else value
        value = value.transposed() if bound.transposed else value
    return Edit(bound.module, start, stop, value, stage, bound.transposed)


def _block_rows(spec: TensorSpec) -> int:
    """Rows of a block: one at least, whatever their width."""
    return max(1, BLOCK_ELEMENTS // max(1, prod(spec.shape[1:])))


def _added(edits: Sequence[Edit], start: int, stop: int) -> Iterator[tuple[int, Delta]]:
    """What falls on rows ``[start, stop)``: first row and delta, of equal rows one sum."""
    by_rows: dict[tuple[int, int], list[Delta]] = {}
    for edit in edits:
        first, last = max(edit.start, start), min(edit.stop, stop)
        if first < last and isinstance(edit.value, Delta):
            part = edit.value.rows(first - edit.start, last - edit.start)
            by_rows.setdefault((first, last), []).append(part)
    for (first, _), deltas in by_rows.items():
        yield first, deltas[0].joined(*deltas[1:])


def _add(rows: Tensor, first: int, row: int, height: int, addend: Addend) -> None:
    """Add in place what of a delta on rows ``[row, row + height)`` falls on ``rows``, from ``first`` on."""
    start, stop = max(first, row), min(first + rows.shape[0], row + height)
    if start < stop:
        addend.add_to(rows[start - first : stop - first], start - row, stop - row)


def _apply(edit: Edit, value: Operated, whole: Tensor, rule: str, device: str) -> None:
    """Put what an operator makes of its rows of ``whole: [O, I*k]`` in their place."""
    part = whole[edit.start : edit.stop]
    operator = value.read().to(device)
    if edit.transposed:
        part.copy_(operator.apply(part.T, value.strength, rule).T)
    else:
        part.copy_(operator.apply(part, value.strength, rule))


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
