"""``$(name)``: where values are inserted, and inserting them.

A scalar that is nothing but ``$(name)`` takes the value with its type; inside text a
value appears as it was written. ``$$(`` stands for the text ``$(``. Values only: a
key is never filled. What was inserted is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from lorapipe.recipe.language import NAME
from lorapipe.recipe.nodes import Entry, Inserted, ListNode, Node, Scalar
from lorapipe.recipe.source import Report, Source, Span
from lorapipe.recipe.suggest import did_you_mean

__all__ = ["MAX_INSERTED", "UNKNOWN", "Value", "check_inserted", "fill", "holes_in", "inserted", "names_in"]

_HOLE = re.compile(rf"\$\$\(|\$\((?:({NAME})\))?")


_MOST_HOLES = 100  # in one value; no path and no note needs more

MAX_INSERTED = 1 << 20
"""Characters that all holes of a recipe insert at most: as long as its text may be."""


@dataclass(frozen=True, slots=True)
class Value:
    """What ``$(name)`` stands for: a value, and the text that wrote it.

    ``known`` is false for a name that exists but has no value; whatever depends on
    it is left unsaid, because the missing value is an error of its own.
    """

    value: bool | int | float | str | None
    text: str
    known: bool = True

    @property
    def shown(self) -> str:
        """The value as an error calls it."""
        return f"'{self.value}'" if isinstance(self.value, str) else self.text


UNKNOWN = Value(None, "", known=False)
"""A name without a value."""


def holes_in(text: str) -> bool:
    """Whether ``text`` holds ``$(``, escaped or not."""
    return "$(" in text


def names_in(node: Node) -> Iterator[str]:
    """The name in each hole of ``node``, as often as it stands there."""
    if isinstance(node, Scalar):
        if _has_hole(node):
            yield from (found.group(1) for found in _HOLE.finditer(str(node.value)) if found.group(1))
        return
    for one in node.items if isinstance(node, ListNode) else [entry.value for entry in node.entries]:
        yield from names_in(one)


def inserted(node: Node) -> Iterator[Inserted]:
    """The holes of a node that are filled."""
    if isinstance(node, Scalar):
        yield from node.inserted
        return
    for one in node.items if isinstance(node, ListNode) else [entry.value for entry in node.entries]:
        yield from inserted(one)


def check_inserted(filled: Iterable[tuple[Node, Mapping[str, Value]]], report: Report) -> None:
    """Refuse at once what :func:`fill` would make gigabytes of: a few lines of holes can stand for them."""
    count = 0
    for node, values in filled:
        count += sum(len(values[name].text) for name in names_in(node) if name in values)
        if count > MAX_INSERTED:
            hint = "write long texts where they stand"
            message = f"what $(name) inserts is longer than {MAX_INSERTED} characters in all"
            report.fatal("too-much-inserted", message, node.span, hint)


def fill(node: Node, values: Mapping[str, Value], report: Report) -> Node:
    """``node`` with every hole filled; an unknown name is noted in ``report``."""
    if isinstance(node, Scalar):
        return _fill_scalar(node, values, report) if _has_hole(node) else node
    if isinstance(node, ListNode):
        return replace(node, items=tuple(fill(item, values, report) for item in node.items))
    entries = []
    for entry in node.entries:
        if holes_in(entry.name):
            report.add("hole-in-key", f"a key takes no $(name): '{entry.name}'", entry.key.span)
        entries.append(Entry(entry.key, fill(entry.value, values, report)))
    return replace(node, entries=tuple(entries))


def _has_hole(node: Scalar) -> bool:
    return isinstance(node.value, str) and holes_in(node.value)


def _fill_scalar(node: Scalar, values: Mapping[str, Value], report: Report) -> Scalar:
    text = str(node.value)
    if text.count("$(") > _MOST_HOLES:
        report.add("too-many-holes", f"more than {_MOST_HOLES} times $( in one value", node.span)
        return replace(node, unknown=True)
    spans = _spans(node, text, report.source)
    pieces: list[str] = []
    inserted: list[Inserted] = []
    unknown = False
    end = 0
    for found, span in zip(_HOLE.finditer(text), spans, strict=True):
        pieces.append(text[end : found.start()])
        end = found.end()
        if found.group() == "$$(":
            pieces.append("$(")
            continue
        value = _look_up(found.group(1), values, span, report)
        unknown = unknown or not value.known
        pieces.append(value.text)
        if found.group(1) is not None:
            inserted.append(Inserted(found.group(1), value.shown, span))
        if found.group() == text and value.known:
            return Scalar(node.span, value.value, value.text, node.plain, tuple(inserted))
    if unknown:
        return replace(node, inserted=tuple(inserted), unknown=True)
    filled = "".join([*pieces, text[end:]])
    return Scalar(node.span, filled, filled, node.plain, tuple(inserted))


def _look_up(name: str | None, values: Mapping[str, Value], span: Span, report: Report) -> Value:
    if name is None:
        hint = "write $(name) with a name from params, or $$( for the text"
        report.add("hole-malformed", "'$(' begins a value to insert", span, hint)
    elif name in values:
        return values[name]
    else:
        hint = did_you_mean(name, values) or f"declare it: params: {{{name}: ...}}"
        report.add("unknown-param", f"no param '{name}'", span, hint)
    return UNKNOWN


def _spans(node: Scalar, text: str, source: Source) -> list[Span]:
    """Where in the source each hole of a scalar stands.

    Quotes, escapes and folded lines move them, so they are looked for in the lines
    that the scalar covers; where an escape hides them all get the scalar's span.
    """
    found: list[Span] = []
    for number in range(node.span.line, node.span.end_line + 1):
        line = source.line(number)
        start = node.span.column if number == node.span.line else 0
        end = node.span.end_column if number == node.span.end_line else len(line)
        found += [Span(number, m.start(), number, m.end()) for m in _HOLE.finditer(line, start, end)]
    count = sum(1 for _ in _HOLE.finditer(text))
    return found if len(found) == count else [node.span] * count
