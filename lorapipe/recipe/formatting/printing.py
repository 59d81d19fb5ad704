"""A :class:`~.tree.Tree` as the text that recipes are written in here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from lorapipe.recipe.formatting.tree import Collection, Comment, Item, Text, Tree, Value

__all__ = ["WIDTH", "print_tree"]

WIDTH = 100
"""Columns that a line keeps to where it can be broken."""

_STEP = 2
_ALIGNED = "steps"


@dataclass(frozen=True, slots=True)
class _Line:
    """A line, and the comment behind what it says."""

    text: str
    comment: Comment | None = None


def print_tree(tree: Tree) -> str:
    """The text of a tree, its lines ended by line feeds."""
    lines = [*_comments(tree.head, 0), *([_Line("---")] if tree.marked else []), *_comments(tree.above, 0)]
    lines += _block(tree.root, 0) if _is_block(tree.root) else _inline(tree.root, 0, 0, tree.behind)
    lines += _comments(tree.tail, 0)
    return "".join(f"{line}\n" for line in _with_comments(_without_first_blank(lines)))


# --- block style


def _block(value: Value, indent: int, *, aligned: bool = False) -> list[_Line]:
    """The items of a block; ``aligned``: their values begin in one column."""
    assert isinstance(value, Collection)
    lines: list[_Line] = []
    pads = _pads(value.items) if aligned else [0] * len(value.items)
    for item, pad in zip(value.items, pads, strict=True):
        lines += _comments(item.above, indent)
        lines += [_Line("")] if item.blank else []
        lines += _item(item, indent, pad)
    return [*lines, *_comments(value.tail, indent)]


def _item(item: Item, indent: int, pad: int) -> list[_Line]:
    head = " " * indent + ("-" if item.key is None else f"{item.key}:")
    value = item.value
    if _is_block(value):
        return _nested(item, head, indent)
    if item.beside or item.lead:
        below = _inline(value, indent + _STEP, indent + _STEP, item.behind)
        return [_Line(head, item.beside), *_comments(item.lead, indent + _STEP), *below]
    if isinstance(value, Text) and not value.lines:
        return [_Line(head, item.behind)]
    head = f"{head:<{indent + pad}} "
    first, *rest = _inline(value, len(head), indent + _STEP, item.behind)
    return [_Line(head + first.text.lstrip(" "), first.comment), *rest, *_block_text(value, indent)]


def _nested(item: Item, head: str, indent: int) -> list[_Line]:
    """A block in a block: below its key, but beside a dash where nothing stands between."""
    assert isinstance(item.value, Collection)
    inside = _block(item.value, indent + _STEP, aligned=indent == 0 and item.name == _ALIGNED)
    inside = _without_first_blank(inside)
    first = item.value.items[0]
    if item.key is None and not (item.beside or item.value.anchor or first.above):
        return [_Line(f"{head} {inside[0].text.lstrip(' ')}", inside[0].comment), *inside[1:]]
    return [_Line(f"{head} {item.value.anchor}".rstrip(" "), item.beside), *inside]


def _pads(items: Sequence[Item]) -> list[int]:
    """The width of the widest key among neighbours: no empty line and no block lies between them."""
    group = 0
    numbers = []
    for item in items:
        group += item.blank or any(one.blank for one in item.above) or not _is_beside(item)
        numbers.append((group, _is_beside(item)))
        group += not _is_beside(item)
    pads: list[int] = []
    for (_, beside), members in groupby(zip(numbers, items, strict=True), key=lambda pair: pair[0]):
        widths = [len(item.key or "") + 1 for _, item in members]
        pads += [max(widths) if beside else 0] * len(widths)
    return pads


def _is_beside(item: Item) -> bool:
    """Whether a step is a map in braces that begins beside its id."""
    return isinstance(item.value, Collection) and item.value.flow and not (item.beside or item.lead)


def _block_text(value: Value, indent: int) -> list[_Line]:
    """The lines of a scalar below ``|`` or ``>``."""
    if not isinstance(value, Text) or value.block is None:
        return []
    margin = " " * (indent + value.step)
    return [_Line(margin + line if line else "") for line in value.block]


# --- flow style


def _inline(value: Value, column: int, hanging: int, behind: Comment | None) -> list[_Line]:
    """A value that begins at a column, in front of it spaces; ``hanging`` is where text goes on."""
    if isinstance(value, Text):
        first, *rest = value.lines or ("",)
        lines = [_Line(" " * column + first), *(_Line(" " * hanging + line if line else "") for line in rest)]
    else:
        lines = _flow(value, column, 0)
    return [*lines[:-1], replace(lines[-1], comment=behind)]


def _flow(value: Collection, column: int, after: int) -> list[_Line]:
    """A map in braces or a list in brackets; ``after`` it come so many characters of others around it.

    Items fill the lines, which break where the author broke them, and where one would be too long.
    """
    opening, closing = "{}" if value.keyed else "[]"
    anchor = f"{value.anchor} " if value.anchor else ""
    lines = [_Line(" " * column + anchor + opening, value.beside)]
    inner = column + len(anchor) + 1
    for number, item in enumerate(value.items):
        last = number == len(value.items) - 1
        rest = 1 + after if last else 1
        short = _short_item(item)
        here = lines[-1].text if number == 0 else f"{lines[-1].text} "
        fits = short is not None and len(here) + len(short) + rest <= WIDTH
        if lines[-1].comment or item.above or (number and (item.broken or not fits)):
            lines += _comments(item.above, inner)
            here = " " * inner
        else:
            lines.pop()
        lines += _flow_item(item, here, rest)
        lines[-1] = replace(lines[-1], text=lines[-1].text + ("" if last else ","), comment=item.behind)
    if lines[-1].comment or value.tail:
        return [*lines, *_comments(value.tail, inner), _Line(" " * (inner - 1) + closing)]
    return [*lines[:-1], _Line(lines[-1].text + closing)]


def _flow_item(item: Item, here: str, rest: int) -> list[_Line]:
    """An item behind what stands in its line already."""
    short = _short_item(item)
    if short is not None and len(here) + len(short) + rest <= WIDTH:
        return [_Line(here + short)]
    here += "" if item.key is None else f"{item.key}: "
    if isinstance(item.value, Collection):
        first, *others = _flow(item.value, len(here), rest)
    else:
        first, *others = _inline(item.value, len(here), len(here), None)
    return [_Line(here + first.text[len(here) :], first.comment), *others]


def _short_item(item: Item) -> str | None:
    value = _short(item.value)
    if value is None or item.key is None:
        return value
    return f"{item.key}: {value}" if value else item.key


def _short(value: Value) -> str | None:
    """A value on one line, or ``None`` for one that comments or its author's line breaks forbid."""
    if isinstance(value, Text):
        return "".join(value.lines) if len(value.lines) < 2 else None
    items = [_short_item(item) for item in value.items]
    free = not any(item.behind or item.above for item in value.items)
    free &= not any(item.broken for item in value.items[1:])
    if not free or value.beside or value.tail or None in items:
        return None
    opening, closing = "{}" if value.keyed else "[]"
    anchor = f"{value.anchor} " if value.anchor else ""
    return f"{anchor}{opening}{', '.join(map(str, items))}{closing}"


# --- lines


def _is_block(value: Value) -> bool:
    return isinstance(value, Collection) and not value.flow


def _comments(comments: Sequence[Comment], indent: int) -> list[_Line]:
    lines = []
    for one in comments:
        lines += [_Line("")] if one.blank else []
        lines.append(_Line(" " * indent + one.text))
    return lines


def _without_first_blank(lines: list[_Line]) -> list[_Line]:
    return lines[1:] if lines and not lines[0].text else lines


def _with_comments(lines: Sequence[_Line]) -> Iterator[str]:
    """Comments behind neighbours of one indentation in one column, where that leaves them in the width."""
    for _, run in groupby(lines, key=lambda line: (line.comment is not None, _indentation(line.text))):
        group = list(run)
        texts = ["" if line.comment is None else f"  {line.comment.text}" for line in group]
        column = max(len(line.text) for line in group)
        if column + max(map(len, texts)) > WIDTH:
            column = 0
        for line, text in zip(group, texts, strict=True):
            yield f"{line.text:<{column}}{text}" if text else line.text


def _indentation(text: str) -> int:
    return len(text) - len(text.lstrip(" "))
