"""Whether two texts are the same recipe, down to a number as it is written, which a path may take in."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from lorapipe.recipe.nodes import ListNode, MapNode, Node, Scalar

__all__ = ["first_difference"]

Path = tuple[str, ...]


def first_difference(one: Node, other: Node, path: Path = ()) -> Node | None:
    """The node of ``one`` that ``other`` says otherwise, or ``None``.

    Order counts, but for that of the keys of a step: terms are stacked in the order written.
    """
    if isinstance(one, Scalar) and isinstance(other, Scalar):
        return None if _said(one) == _said(other) else one
    if isinstance(one, ListNode) and isinstance(other, ListNode):
        pairs = [("", *pair) for pair in zip(one.items, other.items, strict=False)]
        return _first(pairs, path) if len(one.items) == len(other.items) else one
    if isinstance(one, MapNode) and isinstance(other, MapNode):
        a_step = len(path) == 2 and path[0] == "steps"
        mine, theirs = (
            sorted(node.entries, key=attrgetter("name")) if a_step else node.entries for node in (one, other)
        )
        if [entry.name for entry in mine] != [entry.name for entry in theirs]:
            return one
        return _first([(m.name, m.value, t.value) for m, t in zip(mine, theirs, strict=True)], path)
    return one


def _first(pairs: Sequence[tuple[str, Node, Node]], path: Path) -> Node | None:
    found = (first_difference(mine, theirs, (*path, name)) for name, mine, theirs in pairs)
    return next((node for node in found if node is not None), None)


def _said(scalar: Scalar) -> tuple[type, str]:
    return type(scalar.value), scalar.value if isinstance(scalar.value, str) else scalar.text
