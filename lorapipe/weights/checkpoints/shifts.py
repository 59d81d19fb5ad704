"""What merges change in a checkpoint: the norm of each edited tensor, and of what is added to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import hypot, prod

import torch

from lorapipe.weights.algebra.measure import norm
from lorapipe.weights.borders import inside
from lorapipe.weights.checkpoints.checkpoint import Checkpoint
from lorapipe.weights.checkpoints.edits import Edit, added, operated
from lorapipe.weights.each import Each, serial
from lorapipe.weights.shifts import Shift
from lorapipe.weights.structures.delta import Delta
from lorapipe.weights.tensors import torch_dtype

__all__ = ["shifts"]


def shifts(
    checkpoint: Checkpoint, *, compute: str = "float64", device: str = "cpu", each: Each = serial
) -> dict[str, Shift]:
    """``norm(dW)`` and ``norm(W)`` of each tensor with edits, by the file's own key, in its order.

    W is read slab by slab. dW stays in its factors where the deltas fall on the same rows or on
    rows apart; else, and where an operator works, it is the difference of the tensor's values with
    and without its edits, block by block. Nothing is rounded, as a saved file is. Raises what
    :meth:`~.checkpoint.Checkpoint.values` raises.
    """
    before = _before(checkpoint)

    def one(key: str) -> Shift:
        with inside(key):
            edits = checkpoint.edits[key]
            deltas = None if operated(edits) else _apart(edits, _rows(checkpoint, key))
            if deltas is None:
                return _streamed(checkpoint, before, key, compute, device)
            squares = [norm(delta.loaded(), torch_dtype(compute)) for delta in deltas]
            return Shift(hypot(*squares), _size(before, key, compute, device))

    keys = [key for key in checkpoint.spec.tensors if key in checkpoint.edits]
    return dict(zip(keys, each(one, keys), strict=True))


def _before(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint without edits; of weights that an edit pads, as they are in the file."""
    tensors = {key: checkpoint.source.tensors[key] for key in checkpoint.spec.tensors}
    return replace(checkpoint, spec=replace(checkpoint.spec, tensors=tensors), edits={})


def _rows(checkpoint: Checkpoint, key: str) -> int:
    shape = checkpoint.spec.tensors[key].shape
    return shape[0] if shape else 1


def _apart(edits: Sequence[Edit], rows: int) -> list[Delta] | None:
    """The deltas, each the sum of all that fall on its rows; ``None`` where such rows overlap."""
    sums = sorted(((first, delta) for first, delta in added(edits, 0, rows)), key=lambda found: found[0])
    overlapping = any(one + delta.shape[0] > two for (one, delta), (two, _) in pairwise(sums))
    return None if overlapping else [delta for _, delta in sums]


def _size(before: Checkpoint, key: str, compute: str, device: str) -> float:
    """The norm of a tensor, a slab at a time."""
    found = 0.0
    for start, stop in before.slabs(key):
        blocks = before.values(key, start, stop, compute=compute, device=device)
        found = hypot(found, *(float(torch.linalg.vector_norm(values)) for _, values in blocks))
    return found


def _streamed(checkpoint: Checkpoint, before: Checkpoint, key: str, compute: str, device: str) -> Shift:
    """By way of the tensor's values, of which a slab is in memory at a time."""
    shape, old = checkpoint.spec.tensors[key].shape, before.spec.tensors[key].shape
    inner, least = (prod(known[1:2]) for known in (shape, old))
    delta = weight = 0.0
    for start, stop in checkpoint.slabs(key):
        rows = checkpoint.rows(key, start, stop, compute=compute, device=device)
        apart = rows.view(stop - start, inner, -1)
        for first, values in before.values(key, start, stop, compute=compute, device=device):
            weight = hypot(weight, float(torch.linalg.vector_norm(values)))
            apart[first - start : first - start + len(values), :least] -= values.view(len(values), least, -1)
        delta = hypot(delta, float(torch.linalg.vector_norm(rows)))
    return Shift(delta, weight)
