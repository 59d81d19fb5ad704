"""Where a checkpoint keeps the weights of its family's reference layout, whatever its own layout is."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from lorapipe.architectures import Family
from lorapipe.formats.problems import Problems
from lorapipe.weights.specs import Place, TensorSpec

__all__ = ["places", "reference_key"]

_TWICE = "{n} weight{s} that it holds twice"
_MADE_ONE = "keep one of the two: it cannot be told which one a program takes"


def reference_key(key: str, known: Family | None) -> str:
    """What the reference layout calls a tensor; its own name if it is none of the family's."""
    target = None if known is None else known.place(key)
    return key if target is None else target.key


def places(
    tensors: Mapping[str, TensorSpec], known: Family | None, problems: Problems
) -> dict[str, tuple[Place, ...]]:
    """The places of every reference key, by the order of its rows; other tensors under their own names.

    ``problems`` takes weights, or rows of them, that the file holds twice.
    """
    found: dict[str, list[Place]] = {}
    for key, spec in tensors.items():
        target = None if known is None else known.place(key)
        if target is None:
            found.setdefault(key, []).append(Place(key))
            continue
        first = 0
        ranges = target.rows(spec.shape[0]) if target.parts and spec.shape else ()
        for start, stop in ranges:
            found.setdefault(target.key, []).append(Place(key, (start, stop), first))
            first += stop - start
        if not ranges:
            found.setdefault(target.key, []).append(Place(key, transposed=target.transpose))
    return {key: _ordered(held, problems) for key, held in found.items()}


def _ordered(held: list[Place], problems: Problems) -> tuple[Place, ...]:
    if len(held) == 1:
        return tuple(held)
    held = sorted(held, key=lambda place: place.rows or (0, 0))
    for one, two in pairwise(held):
        if one.rows is None or two.rows is None or two.rows[0] < one.rows[1]:
            problems.say("weight-twice", _TWICE, f"{one.key} and {two.key}", _MADE_ONE)
    return tuple(held)
