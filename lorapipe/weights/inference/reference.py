"""Where a checkpoint keeps a weight of the reference layout, from its spec alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lorapipe.weights.specs import CheckpointSpec, canonical_shape

__all__ = ["Take", "takes", "whole_shape"]


@dataclass(frozen=True, slots=True)
class Take:
    """Rows ``[start, stop)`` of the file's tensor ``key``.

    ``first`` is the place of the first of them among the rows that were asked for. Where
    ``transposed``, the tensor is the weight's transpose, and these are its columns.
    """

    key: str
    start: int
    stop: int
    first: int
    transposed: bool = False


def whole_shape(spec: CheckpointSpec, key: str) -> tuple[int, ...] | None:
    """The shape of a reference weight; ``None`` where the checkpoint lacks it, or rows of it.

    >>> from lorapipe.weights.specs import Place, TensorSpec
    >>> tensors = {"q": TensorSpec("F32", (2, 5)), "k": TensorSpec("F32", (3, 5))}
    >>> qk = (Place("q", (0, 2)), Place("k", (2, 5)))
    >>> whole_shape(CheckpointSpec(None, tensors, {"qk": qk, "k": qk[1:]}), "qk")
    (5, 5)
    """
    places = spec.keys.get(key)
    if not places:
        return None
    shapes = [spec.tensors[place.key].shape for place in places]
    if len(places) == 1 and places[0].rows is None:
        return shapes[0][::-1] if places[0].transposed else shapes[0]
    reached = 0
    for place in places:
        if place.rows is None or place.rows[0] != reached:
            return None
        reached = place.rows[1]
    if len({canonical_shape(shape)[1:] for shape in shapes}) > 1:
        return None
    return (reached, *shapes[0][1:])


def takes(spec: CheckpointSpec, key: str, start: int, stop: int) -> Iterator[Take]:
    """What to read for rows ``[start, stop)`` of a reference weight that the checkpoint has."""
    for place in spec.keys[key]:
        shape = spec.tensors[place.key].shape
        height = shape[1] if place.transposed else (shape[0] if shape else 1)
        low, high = place.rows or (0, height)
        first, last = max(start, low), min(stop, high)
        if first < last:
            row = first - low + place.first
            yield Take(place.key, row, row + last - first, first - start, place.transposed)
