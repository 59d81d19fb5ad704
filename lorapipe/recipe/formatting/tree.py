"""A recipe's text as a tree that forgets nothing but its spaces: comments, anchors, quotes, styles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Collection", "Comment", "Item", "Text", "Tree", "Value"]


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment, from its ``#``. ``blank``: an empty line stands above it; ``own``: nothing before it."""

    text: str
    index: int
    line: int
    column: int
    own: bool
    blank: bool


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar or an alias as it is to be written, its anchor included; no line if it is empty.

    More than one line are those of quoted or plain text over several lines, without their
    indentation. ``block`` are the lines below of one that begins with ``|`` or ``>``, without
    theirs, which is ``step`` deeper than the key.
    """

    lines: tuple[str, ...]
    block: tuple[str, ...] | None = None
    step: int = 2


@dataclass(frozen=True, slots=True)
class Collection:
    """A map or a list. ``flow``: in braces or brackets; ``beside`` stands right after the first of them.

    ``tail`` are comments below the last item.
    """

    items: tuple[Item, ...]
    keyed: bool
    flow: bool
    anchor: str = ""
    beside: Comment | None = None
    tail: tuple[Comment, ...] = ()


Value = Text | Collection


@dataclass(frozen=True, slots=True)
class Item:
    """A key with its value, or an item of a list.

    ``above`` are the comments over it, ``beside`` one behind its colon or dash, ``lead`` those
    between that and its value, ``behind`` the one behind the value. ``blank``: an empty line
    stands directly above; ``broken``: it begins a line inside of braces.
    """

    key: str | None
    name: str | None
    value: Value
    above: tuple[Comment, ...] = ()
    beside: Comment | None = None
    lead: tuple[Comment, ...] = ()
    behind: Comment | None = None
    blank: bool = False
    broken: bool = False

    def comments(self) -> Iterator[Comment]:
        """All comments at it and inside."""
        yield from self.above
        yield from (one for one in (self.beside, self.behind) if one is not None)
        yield from self.lead
        yield from _inside(self.value)


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole recipe. ``head`` stands above ``---``, which ``marked`` says is written."""

    root: Value
    head: tuple[Comment, ...] = ()
    marked: bool = False
    above: tuple[Comment, ...] = ()
    behind: Comment | None = None
    tail: tuple[Comment, ...] = ()

    def comments(self) -> Iterator[Comment]:
        """All comments of the recipe."""
        yield from self.head
        yield from self.above
        yield from () if self.behind is None else (self.behind,)
        yield from self.tail
        yield from _inside(self.root)


def _inside(value: Value) -> Iterator[Comment]:
    if isinstance(value, Collection):
        yield from () if value.beside is None else (value.beside,)
        for item in value.items:
            yield from item.comments()
        yield from value.tail
