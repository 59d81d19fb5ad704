"""Text to a :class:`~.tree.Tree`: the parser's events with what stands between them.

The parser passes over comments. They are looked for outside of scalars, where nothing else can
hold a ``#``, and given to what they stand at: to the line they share, else to the item below,
else, where they are indented deeper than what follows, to the end of the collection above.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import yaml

from lorapipe.errors import RecipeError
from lorapipe.recipe.compose import events
from lorapipe.recipe.formatting.marks import COMMENT, Marks, end_of, index_of
from lorapipe.recipe.formatting.tree import Collection, Comment, Item, Text, Tree, Value
from lorapipe.recipe.scalars import bare
from lorapipe.recipe.source import BREAK, Source

__all__ = ["read_tree"]


def read_tree(source: Source) -> Tree:
    """The tree of a text that :func:`~lorapipe.recipe.compose.compose` has found to be sound.

    Raises :class:`~lorapipe.errors.RecipeError` ``not-formattable`` at what cannot be kept in
    place by any of the forms in which recipes are written here.
    """
    return _Reader(source).tree()


class _Reader:
    """Reads one text; holds how far events and comments have been used, and where the last value ended."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._text = source.text
        self._events = list(_all_events(source.text))
        self._marks = Marks(source, self._events)
        self._comments = self._marks.comments
        self._at = self._used = self._end = 0

    def tree(self) -> Tree:
        self._next()
        start = self._next()
        directive = re.compile("^%", re.MULTILINE).search(self._text, 0, end_of(start))
        if directive is not None:
            self._refuse(directive.start(), "a line that begins with % cannot be kept", "delete it")
        head = self._own(index_of(start)) if start.explicit else ()
        first = self._event
        above = self._own(index_of(first)) if _is_inline(first) else ()
        root = self._value(-1)
        behind = self._behind(self._marks.line_of(self._end)) if _is_inline(first) else None
        return Tree(root, head, bool(start.explicit), above, behind, self._own(len(self._text)))

    # --- collections

    @property
    def _event(self) -> Any:
        return self._events[self._at]

    @property
    def _closing(self) -> bool:
        return isinstance(self._event, (yaml.MappingEndEvent, yaml.SequenceEndEvent))

    def _next(self) -> Any:
        self._at += 1
        return self._events[self._at - 1]

    def _value(self, parent: int) -> Value:
        """The next value; ``parent`` is the column of the collection that it is in."""
        event = self._next()
        self._end = end_of(event)
        if isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)):
            return self._scalar(event, parent)
        return self._flow(event) if event.flow_style else self._block(event, parent)

    def _block(self, start: Any, parent: int) -> Collection:
        keyed = isinstance(start, yaml.MappingStartEvent)
        self._end = index_of(start)
        items = []
        while not self._closing:
            items.append(self._block_item(keyed=keyed))
        closing = index_of(self._next())
        tail = self._own(closing, deeper_than=parent)
        return Collection(tuple(items), keyed, flow=False, anchor=_anchor(start), tail=tail)

    def _block_item(self, *, keyed: bool) -> Item:
        begin = self._marks.skip(self._end)
        above = self._own(begin)
        line = self._marks.line_of(begin)
        column = begin - self._marks.starts[line]
        key, name = self._key() if keyed else (None, None)
        event = self._event
        inline = _is_inline(event)
        lead: tuple[Comment, ...] = ()
        beside = None
        if inline and self._before(index_of(event)):
            beside, lead = self._behind(line), self._own(index_of(event))
        elif not inline and self._before(self._marks.skip(index_of(event))):
            beside = self._behind(line) or self._behind(event.start_mark.line)
        value = self._value(column)
        ends = inline and index_of(event) not in self._marks.blocks
        behind = self._behind(self._marks.line_of(self._end)) if ends else None
        return Item(key, name, value, above, beside, lead, behind, self._marks.blank_above(line))

    def _flow(self, start: Any) -> Collection:
        self._none_before(end_of(start))
        keyed = isinstance(start, yaml.MappingStartEvent)
        beside = self._behind(start.end_mark.line) if self._before(index_of(self._event)) else None
        items: list[Item] = []
        while not self._closing:
            begin = index_of(self._event)
            broken = bool(items) and self._marks.line_of(begin) > self._marks.line_of(self._end)
            items.append(self._flow_item(keyed=keyed, broken=broken))
            if self._before(index_of(self._event)):
                items[-1] = replace(items[-1], behind=self._behind(self._marks.line_of(self._end)))
        closing = self._next()
        tail = self._own(index_of(closing))
        self._end = end_of(closing)
        return Collection(tuple(items), keyed, flow=True, anchor=_anchor(start), beside=beside, tail=tail)

    def _flow_item(self, *, keyed: bool, broken: bool) -> Item:
        above = self._own(index_of(self._event))
        key, name = self._key() if keyed else (None, None)
        self._none_before(index_of(self._event))
        return Item(key, name, self._value(-1), above, broken=broken)

    def _key(self) -> tuple[str, str]:
        event = self._next()
        begin = index_of(event)
        if "?" in COMMENT.sub("", self._text[self._end : begin]):
            self._refuse(begin, "a key behind '?' cannot be kept", "write it as key: value")
        if isinstance(event, yaml.AliasEvent):
            self._refuse(begin, "an alias cannot be kept as a key", "write the key out")
        self._end = end_of(event)
        text = self._scalar(event, 0)
        return "".join(text.lines), event.value

    # --- scalars

    def _scalar(self, event: Any, parent: int) -> Text:
        begin, end = index_of(event), end_of(event)
        if isinstance(event, yaml.AliasEvent):
            return Text((self._text[begin:end],))
        anchor = _anchor(event)
        content = self._marks.skip(begin, comments=False) if anchor else begin
        if begin in self._marks.blocks:
            return self._block_text(event, content, parent)
        lines = _lines(event, self._text[content:end])
        lines[0] = f"{anchor} {lines[0]}".strip(" ") if anchor else lines[0]
        return Text(tuple(lines) if any(lines) else ())

    def _block_text(self, event: Any, begin: int, parent: int) -> Text:
        first, last = self._marks.line_of(begin), self._marks.blocks[index_of(event)]
        header = self._source.line(first)[begin - self._marks.starts[first] :].rstrip()
        found = re.search("[1-9]", header.partition("#")[0])
        lines = self._source.lines[first + 1 : last]
        indent = parent + int(found[0]) if found else _indent_of(lines)
        self._end = self._marks.start_of(last)
        text = f"{_anchor(event)} {header}".lstrip(" ")
        return Text((text,), tuple(line[indent:] for line in lines), int(found[0]) if found else 2)

    # --- comments

    def _own(self, until: int, deeper_than: int = -1) -> tuple[Comment, ...]:
        """The comments before ``until``, each on a line of its own; as long as they are indented deeper."""
        found = []
        while self._before(until):
            one = self._comments[self._used]
            if not one.own:
                self._refuse(one.index, "this comment cannot be kept here", "put it on a line of its own")
            if one.column <= deeper_than:
                break
            found.append(one)
            self._used += 1
        return tuple(found)

    def _behind(self, line: int) -> Comment | None:
        """The comment at the end of a line, if something stands before it there."""
        one = self._comments[self._used] if self._used < len(self._comments) else None
        if one is None or one.own or one.line != line:
            return None
        self._used += 1
        return one

    def _before(self, until: int) -> bool:
        return self._used < len(self._comments) and self._comments[self._used].index < until

    def _none_before(self, until: int) -> None:
        if self._before(until):
            index = self._comments[self._used].index
            self._refuse(
                index, "a comment between a key and its value cannot be kept", "put it above the key"
            )

    def _refuse(self, index: int, message: str, hint: str) -> NoReturn:
        where = self._source.place(self._source.span_at(index))
        raise RecipeError("not-formattable", message, hint=hint, where=where)


def _lines(event: Any, text: str) -> list[str]:
    """A scalar as it is to be written: without quotes that are not due, and without indentation."""
    if event.style and bare(event.value):
        return [event.value]
    if event.style == "'" and not re.search('["\\\\]', event.value) and not BREAK.search(text):
        return [f'"{event.value}"']
    first, *rest = BREAK.split(text)
    lines = [first, *(line.lstrip(" \t") for line in rest)]
    return lines if event.style else [line.rstrip(" \t") for line in lines]


def _all_events(text: str) -> Iterator[Any]:
    parser = events(text)
    while not isinstance(event := parser.get_event(), yaml.StreamEndEvent):
        yield event


def _is_inline(event: Any) -> bool:
    return isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)) or bool(event.flow_style)


def _anchor(event: Any) -> str:
    return "" if event.anchor is None else f"&{event.anchor}"


def _indent_of(lines: Sequence[str]) -> int:
    return next((len(line) - len(line.lstrip(" ")) for line in lines if line.strip(" ")), 0)
