"""Text to a :class:`~.tree.Tree`: the parser's events with what stands between them.

The parser passes over comments. They are looked for outside of scalars, where nothing else can
hold a ``#``, and given to what they stand at: to the line they share, else to the item below,
else, where they are indented deeper than what follows, to the end of the collection above.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import yaml

from lorapipe.errors import RecipeError
from lorapipe.recipe.compose import events
from lorapipe.recipe.formatting.tree import Collection, Comment, Item, Text, Tree, Value
from lorapipe.recipe.scalars import bare
from lorapipe.recipe.source import BREAK, Source

__all__ = ["read_tree"]

_COMMENT = re.compile("#[^\n\r\x85\u2028\u2029]*")
_SPACED = re.compile(r"(?:\s|&[\w-]+)*")
_PASSED = re.compile(rf"(?:\s|&[\w-]+|{_COMMENT.pattern})*")


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
        self._starts = [0, *(found.end() for found in BREAK.finditer(source.text))]
        self._events = list(_all_events(source.text))
        self._blocks = {_begin(e): self._block_end(e) for e in self._events if _is_block_text(e)}
        self._block_ends = frozenset(self._blocks.values())
        self._comments = list(self._find_comments())
        self._at = self._used = self._end = 0

    def tree(self) -> Tree:
        self._next()
        start = self._next()
        directive = re.compile("^%", re.MULTILINE).search(self._text, 0, _end(start))
        if directive is not None:
            self._refuse(directive.start(), "a line that begins with % cannot be kept", "delete it")
        head = self._own(_begin(start)) if start.explicit else ()
        first = self._event
        above = self._own(_begin(first)) if _is_inline(first) else ()
        root = self._value(-1)
        behind = self._behind(self._line_of(self._end)) if _is_inline(first) else None
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
        self._end = _end(event)
        if isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)):
            return self._scalar(event, parent)
        return self._flow(event) if event.flow_style else self._block(event, parent)

    def _block(self, start: Any, parent: int) -> Collection:
        keyed = isinstance(start, yaml.MappingStartEvent)
        self._end = _begin(start)
        items = []
        while not self._closing:
            items.append(self._block_item(keyed=keyed))
        closing = _begin(self._next())
        tail = self._own(closing, deeper_than=parent)
        return Collection(tuple(items), keyed, flow=False, anchor=_anchor(start), tail=tail)

    def _block_item(self, *, keyed: bool) -> Item:
        begin = self._skip(self._end)
        above = self._own(begin)
        line = self._line_of(begin)
        column = begin - self._starts[line]
        key, name = self._key() if keyed else (None, None)
        event = self._event
        inline = _is_inline(event)
        lead: tuple[Comment, ...] = ()
        beside = None
        if inline and self._before(_begin(event)):
            beside, lead = self._behind(line), self._own(_begin(event))
        elif not inline and self._before(self._skip(_begin(event))):
            beside = self._behind(line) or self._behind(event.start_mark.line)
        value = self._value(column)
        ends = inline and _begin(event) not in self._blocks
        behind = self._behind(self._line_of(self._end)) if ends else None
        return Item(key, name, value, above, beside, lead, behind, self._blank_above(line))

    def _flow(self, start: Any) -> Collection:
        self._none_before(_end(start))
        keyed = isinstance(start, yaml.MappingStartEvent)
        beside = self._behind(start.end_mark.line) if self._before(_begin(self._event)) else None
        items: list[Item] = []
        while not self._closing:
            begin = _begin(self._event)
            broken = bool(items) and self._line_of(begin) > self._line_of(self._end)
            items.append(self._flow_item(keyed=keyed, broken=broken))
            if self._before(_begin(self._event)):
                items[-1] = replace(items[-1], behind=self._behind(self._line_of(self._end)))
        closing = self._next()
        tail = self._own(_begin(closing))
        self._end = _end(closing)
        return Collection(tuple(items), keyed, flow=True, anchor=_anchor(start), beside=beside, tail=tail)

    def _flow_item(self, *, keyed: bool, broken: bool) -> Item:
        above = self._own(_begin(self._event))
        key, name = self._key() if keyed else (None, None)
        self._none_before(_begin(self._event))
        return Item(key, name, self._value(-1), above, broken=broken)

    def _key(self) -> tuple[str, str]:
        event = self._next()
        begin = _begin(event)
        if "?" in _COMMENT.sub("", self._text[self._end : begin]):
            self._refuse(begin, "a key behind '?' cannot be kept", "write it as key: value")
        if isinstance(event, yaml.AliasEvent):
            self._refuse(begin, "an alias cannot be kept as a key", "write the key out")
        self._end = _end(event)
        text = self._scalar(event, 0)
        return "".join(text.lines), event.value

    # --- scalars

    def _scalar(self, event: Any, parent: int) -> Text:
        begin, end = _begin(event), _end(event)
        if isinstance(event, yaml.AliasEvent):
            return Text((self._text[begin:end],))
        anchor = _anchor(event)
        content = self._skip(begin, comments=False) if anchor else begin
        if begin in self._blocks:
            return self._block_text(event, content, parent)
        lines = _lines(event, self._text[content:end])
        lines[0] = f"{anchor} {lines[0]}".strip(" ") if anchor else lines[0]
        return Text(tuple(lines) if any(lines) else ())

    def _block_text(self, event: Any, begin: int, parent: int) -> Text:
        first, last = self._line_of(begin), self._blocks[_begin(event)]
        header = self._source.line(first)[begin - self._starts[first] :].rstrip()
        found = re.search("[1-9]", header.partition("#")[0])
        lines = self._source.lines[first + 1 : last]
        indent = parent + int(found[0]) if found else _indent_of(lines)
        self._end = self._start_of(last)
        text = f"{_anchor(event)} {header}".lstrip(" ")
        return Text((text,), tuple(line[indent:] for line in lines), int(found[0]) if found else 2)

    def _block_end(self, event: Any) -> int:
        """The line behind a scalar of ``|`` or ``>``: empty lines at its end are its own if it keeps them."""
        content = self._skip(_begin(event), comments=False)
        first, line = self._line_of(content), int(event.end_mark.line) + bool(event.end_mark.column)
        keeps = "+" in self._text[content : content + 3].partition("#")[0].partition("\n")[0]
        while not keeps and line > first + 1 and not self._source.line(line - 1).strip(" "):
            line -= 1
        return line

    # --- comments

    def _find_comments(self) -> Iterator[Comment]:
        position = 0
        for start, end in [*self._scalars(), (len(self._text), len(self._text))]:
            for found in _COMMENT.finditer(self._text, position, max(position, start)):
                line = self._line_of(found.start())
                column = found.start() - self._starts[line]
                own = not self._source.line(line)[:column].strip()
                yield Comment(
                    found[0].rstrip(), found.start(), line, column, own, own and self._blank_above(line)
                )
            position = max(position, end)

    def _scalars(self) -> Iterator[tuple[int, int]]:
        for event in self._events:
            if not isinstance(event, yaml.ScalarEvent):
                continue
            begin = _begin(event)
            last = self._blocks.get(begin)
            content = self._skip(begin, comments=False) if event.anchor else begin
            yield content, _end(event) if last is None else self._start_of(last)

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

    # --- positions

    def _skip(self, index: int, *, comments: bool = True) -> int:
        """The first character from ``index`` that is no space, no comment and of no anchor."""
        pattern = _PASSED if comments else _SPACED
        found = pattern.match(self._text, index)
        assert found is not None, "the pattern matches nothing as well"
        return found.end()

    def _blank_above(self, line: int) -> bool:
        return line > 0 and not self._source.line(line - 1).strip() and line not in self._block_ends

    def _line_of(self, index: int) -> int:
        return bisect_right(self._starts, index) - 1

    def _start_of(self, line: int) -> int:
        return self._starts[line] if line < len(self._starts) else len(self._text)

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


def _begin(event: Any) -> int:
    """The index of a value's first character, its anchor's if it has one."""
    return int(event.start_mark.index)


def _end(event: Any) -> int:
    return int(event.end_mark.index)


def _is_inline(event: Any) -> bool:
    return isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)) or bool(event.flow_style)


def _is_block_text(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.style in ("|", ">")


def _anchor(event: Any) -> str:
    return "" if event.anchor is None else f"&{event.anchor}"


def _indent_of(lines: Sequence[str]) -> int:
    return next((len(line) - len(line.lstrip(" ")) for line in lines if line.strip(" ")), 0)
