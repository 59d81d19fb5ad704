"""HTML and SVG from values: whatever is not markup already is escaped where it is put in."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from lorapipe.views.text import visible

__all__ = ["Html", "Node", "cut", "joined", "name", "tag"]

_VOID = frozenset({"meta", "br"})
_LONGEST = 160
"""Characters of a name on the page; whole it is in the JSON."""

_LONGEST_TEXT = 900
"""Characters of anything else that may hold a name."""

_SHORT = 24
"""Characters up to which a name asks for no room of its own in a table."""


class Html(str):
    """Text that is markup, and goes into other markup as it is."""

    __slots__ = ()


Node = Html | str | int | float | None
"""What may stand in an element: markup, or text; ``None`` is nothing."""


def tag(_name: str, *children: Node, **attributes: str | float | bool | None) -> Html:
    r"""An element; ``class_`` and ``data_v`` become ``class`` and ``data-v``, and ``None`` is left out.

    >>> tag("a", "<&", href="x'\"", class_="y")
    '<a href="x&#x27;&quot;" class="y">&lt;&amp;</a>'
    """
    said = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if _name in _VOID:
        return Html(f"<{_name}{said}>")
    return Html(f"<{_name}{said}>{joined(children)}</{_name}>")


def joined(children: Iterable[Node]) -> Html:
    """Elements and texts, one after the other."""
    return Html("".join(_text(child) for child in children if child is not None))


def name(text: str) -> Html:
    """A stranger's name: of bounded length, on its own for the direction of its script."""
    return tag("bdi", cut(text), class_="long" if len(text) > _SHORT else None)


def cut(text: str, most: int = _LONGEST) -> str:
    """A text of at most ``most`` characters as it is shown: the middle goes first.

    >>> cut("a" * 50 + "b" * 50, 11)
    'aaaaa…bbbbb'
    """
    shown = visible(text)
    if len(shown) <= most:
        return shown
    half = (most - 1) // 2
    return f"{shown[:half]}…{shown[-half:]}"


def _attribute(key: str, value: str | float | bool) -> str:
    key = key.rstrip("_").replace("_", "-")
    if isinstance(value, bool):
        return f" {key}" if value else ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f' {key}="{escape(visible(text))}"'


def _text(child: Html | str | float) -> str:
    return child if isinstance(child, Html) else escape(cut(str(child), _LONGEST_TEXT))
