"""A YAML document as values that know where they stand.

Only what the recipe language needs: scalars, lists, and maps whose keys are text.
"""

from __future__ import annotations

from dataclasses import dataclass

from lorapipe.recipe.model import JSON
from lorapipe.recipe.source import Span

__all__ = ["Entry", "Inserted", "ListNode", "MapNode", "Node", "Scalar", "show", "size", "to_json"]

_LONGEST = 60


@dataclass(frozen=True, slots=True)
class Inserted:
    """A value that ``$(name)`` stood for: its name, what it is, where the hole stands."""

    name: str
    shown: str
    span: Span


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar: its value by YAML 1.2's core rules, and its text as written.

    ``plain`` says that it stands without quotes. ``inserted`` are the holes that were
    filled to make it. ``unknown`` says that its value is not known (a param without
    value): nothing that depends on the value is said of it.
    """

    span: Span
    value: bool | int | float | str | None
    text: str
    plain: bool = True
    inserted: tuple[Inserted, ...] = ()
    unknown: bool = False

    @property
    def empty(self) -> bool:
        """Nothing is written: ``key:`` or ``{key}``."""
        return self.plain and not self.text


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list."""

    span: Span
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a map with its value."""

    key: Scalar
    value: Node

    @property
    def name(self) -> str:
        """The key as text, whatever YAML would make of it."""
        return self.key.text


@dataclass(frozen=True, slots=True)
class MapNode:
    """A map: its entries in order, each key once. ``flow`` means written in braces."""

    span: Span
    entries: tuple[Entry, ...]
    flow: bool = False

    def get(self, name: str) -> Node | None:
        """The value of a key, or None."""
        return next((entry.value for entry in self.entries if entry.name == name), None)


Node = Scalar | ListNode | MapNode


def to_json(node: Node) -> JSON:
    """The node's value without its positions."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, ListNode):
        return [to_json(item) for item in node.items]
    return {entry.name: to_json(entry.value) for entry in node.entries}


def size(node: Node) -> int:
    """The scalars, lists and maps in a node, itself and keys among them."""
    if isinstance(node, Scalar):
        return 1
    if isinstance(node, ListNode):
        return 1 + sum(map(size, node.items))
    return 1 + sum(1 + size(entry.value) for entry in node.entries)


def show(node: Node) -> str:
    """The node as an error message calls it: text in quotes, numbers as written.

    >>> show(Scalar(Span(0, 0, 0, 4), 4.0, "4.0"))
    '4.0'
    """
    if isinstance(node, ListNode):
        return "a list" if node.items else "an empty list"
    if isinstance(node, MapNode):
        return "a map" if node.entries else "an empty map"
    if node.empty:
        return "nothing"
    if not isinstance(node.value, str):
        return node.text
    text = node.value if len(node.value) <= _LONGEST else node.value[: _LONGEST - 1] + "…"
    return f"'{text}'"
