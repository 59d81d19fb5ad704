"""Measures of checkpoints, of which a few slabs are in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import sqrt

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.borders import inside
from lorapipe.weights.checkpoints.checkpoint import Checkpoint
from lorapipe.weights.checkpoints.edits import operated
from lorapipe.weights.checkpoints.quantised import Rescaled
from lorapipe.weights.each import Each, serial
from lorapipe.weights.inference.checking import Figure
from lorapipe.weights.specs import FLOATING
from lorapipe.weights.tensors import TORCH_DTYPES, all_finite

__all__ = ["differs", "measure"]


def measure(
    checkpoint: Checkpoint,
    *,
    of: Checkpoint | None = None,
    compute: str = "float64",
    device: str = "cpu",
    each: Each = serial,
) -> dict[str, Figure]:
    """The norm of each tensor of floating-point numbers, by its key, and whether all are finite.

    With ``of``, which has the same tensors, the norms of ``x - y`` and ``y`` too. The values
    are those before any rounding; of a scaled fp8 weight they are multiplied out. Sums of
    squares are added up slab by slab.
    """

    def one(key: str) -> Figure:
        with inside(key):
            size = left = whole = 0.0
            finite, other = True, None if of is None or _same(checkpoint, of, key) else of
            for start, stop in checkpoint.slabs(key):
                values = checkpoint.rows(key, start, stop, compute=compute, device=device)
                finite = finite and all_finite(values)
                size += _square(values)
                if other is not None:  # whose blocks may be others
                    others = other.rows(key, start, stop, compute=compute, device=device)
                    whole += _square(others)
                    left += _square(values.sub_(others))
        if of is None:
            return Figure(sqrt(size), finite=finite)
        return Figure(sqrt(size), sqrt(left), sqrt(size if other is None else whole), finite)

    keys = [key for key in checkpoint.spec.tensors if _measured(checkpoint, key)]
    return dict(zip(keys, each(one, keys), strict=True))


def differs(
    checkpoint: Checkpoint, other: Checkpoint, *, compute: str = "float64", device: str = "cpu"
) -> str | None:
    """The first tensor that would be written with other numbers, of two that have the same tensors.

    What merges change is compared first, and what neither changes of one file is the same. 0.0 and
    -0.0 are one number: a term that rounding swallows may turn the sign of a zero. A number that
    has no place in its tensor's type makes a difference too.
    """
    sides = [_Written(side, compute, device) for side in (checkpoint, other)]
    keys = [key for key in checkpoint.spec.tensors if not _same(checkpoint, other, key)]
    for key in sorted(keys, key=lambda key: key not in checkpoint.edits and key not in other.edits):
        if key not in checkpoint.spec.companions and _other_numbers(sides, key):
            return key
    return None


def _same(one: Checkpoint, two: Checkpoint, key: str) -> bool:
    """Whether a tensor is the same without a look: of one file, and changed by neither."""
    return one.source is two.source and key not in one.edits and key not in two.edits


class _Written:
    """A checkpoint's tensors as ``dtype: keep`` writes them."""

    def __init__(self, checkpoint: Checkpoint, compute: str, device: str) -> None:
        self.checkpoint = checkpoint
        self._rescaled = Rescaled(partial(checkpoint.rescaled, compute=compute, device=device))
        self._chunks = partial(checkpoint.chunks, compute=compute, device=device, rescaled=self._rescaled)

    def whole(self, key: str) -> bool:
        """Whether an operator says in which slabs the tensor is made."""
        return operated(self.checkpoint.edits.get(key, ()))

    def bytes(self, key: str, slab: tuple[int, int]) -> bytes:
        return b"".join(self._chunks(key, slab=slab))


def _other_numbers(sides: Sequence[_Written], key: str) -> bool:
    one, two = sides
    dtype = one.checkpoint.spec.tensors[key].dtype
    slabs = (two if two.whole(key) else one).checkpoint.slabs(key)
    if one.whole(key) and two.whole(key):
        slabs = iter([(0, max(1, *one.checkpoint.spec.tensors[key].shape[:1]))])
    with inside(key):
        try:
            return any(_differ(one.bytes(key, slab), two.bytes(key, slab), dtype) for slab in slabs)
        except BuildError as error:
            if error.code in ("overflow", "not-finite"):
                return True
            raise


def _differ(one: bytes, two: bytes, dtype: str) -> bool:
    """Whether two runs of numbers of one type differ; all that is no float by its bytes."""
    if one == two or len(one) != len(two) or dtype not in FLOATING:
        return one != two
    a, b = (torch.frombuffer(bytearray(run), dtype=TORCH_DTYPES[dtype]).double() for run in (one, two))
    return not torch.equal(a, b)


def _measured(checkpoint: Checkpoint, key: str) -> bool:
    """Whether a tensor holds weights: no integers, no scales of others."""
    spec = checkpoint.spec
    return spec.tensors[key].dtype in FLOATING and key not in spec.companions


def _square(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values)) ** 2
