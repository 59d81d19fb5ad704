"""YAML text to nodes with positions, for text that strangers wrote.

PyYAML's events are composed here rather than by PyYAML: so depth and size are
bounded while reading (an alias may stand for a thousand nodes), scalars follow YAML
1.2, and duplicate keys, merge keys and tags are refused where they stand. Nothing is
ever constructed but text, numbers, booleans, lists and maps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import yaml

from lorapipe.recipe.nodes import Entry, ListNode, MapNode, Node, Scalar
from lorapipe.recipe.scalars import ScalarTrouble, resolve
from lorapipe.recipe.source import Report, Span
from lorapipe.recipe.syntax import explain

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "compose", "events"]

MAX_BYTES = 1 << 20
"""The longest recipe; one of 2000 steps has a tenth of it."""

MAX_DEPTH = 20
"""The deepest nesting; the language itself needs five."""

MAX_NODES = 24_000
"""The most scalars, lists and maps, each alias counted as what it stands for; 2000 steps have 16,000."""

_NOT_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)
_MOST_DIRECTIVES = 8  # libyaml holds each %TAG against all before it

_CONFLICT = re.compile(r"^<<<<<<< .*$", re.MULTILINE)
_NO_SPACE = re.compile(r"([^\s:]+):(\S+)\Z")


def compose(report: Report) -> Node:
    """The one document of a recipe's text.

    Errors that leave the rest readable are noted in ``report``; others are raised
    at once, with all that were noted before.
    """
    _check_characters(report)
    composer = _Composer(report)
    try:
        return composer.document()
    except yaml.MarkedYAMLError as error:
        message, hint, span = explain(error, report.source)
        report.fatal("yaml-syntax", message, span, hint)
    except yaml.YAMLError as error:
        report.fatal("yaml-syntax", f"this is not YAML: {error}", Span(0, 0, 0, 1))


def _check_characters(report: Report) -> None:
    """Refuse what is no text before a scanner sees it: its errors have no place."""
    source = report.source
    if len(source.text) > MAX_BYTES or len(source.text.encode("utf-8", "replace")) > MAX_BYTES:
        report.fatal("recipe-too-long", f"a recipe has at most {MAX_BYTES} bytes", Span(0, 0, 0, 1))
    bad = _NOT_TEXT.search(source.text)
    if bad is not None:
        code = f"U+{ord(bad.group()):04X}"
        report.fatal("not-text", f"the character {code} is no text", source.span_at(bad.start()), "delete it")
    directives = list(islice(_DIRECTIVE.finditer(source.text), _MOST_DIRECTIVES + 1))
    if len(directives) > _MOST_DIRECTIVES:
        span = source.span_at(directives[-1].start())
        report.fatal("yaml-directives", "a recipe needs no lines that begin with %", span, "delete them")
    conflicts = list(_CONFLICT.finditer(source.text))
    for found in conflicts:
        span = source.span_at(found.start(), len(found.group()))
        report.add(
            "git-conflict", "git left a conflict here", span, "keep one side and delete the marker lines"
        )
    report.raise_errors()


def events(text: str) -> Any:
    """PyYAML's parser: libyaml's where PyYAML has it, else the one in Python."""
    parser = getattr(yaml, "cyaml", None)
    return parser.CParser(text) if parser is not None else _PythonParser(text)


class _PythonParser(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):
    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)


class _Composer:
    """Composes one text; holds the anchors seen and the nodes counted so far."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._parser = events(report.source.text)
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._open: set[str] = set()
        self._count = 0

    def document(self) -> Node:
        self._next()
        start = self._next()
        if isinstance(start, yaml.StreamEndEvent):
            self._report.fatal(
                "recipe-empty",
                "the recipe is empty",
                Span(0, 0, 0, 1),
                "begin with 'lorapipe: 1' and 'steps:'",
            )
        node = self._node(self._next(), 0)
        self._next()
        after = self._next()
        if isinstance(after, yaml.DocumentStartEvent):
            self._report.fatal(
                "second-document",
                "a second document begins here",
                _span(after),
                "give each recipe its own file",
            )
        return node

    def _next(self) -> Any:
        return self._parser.get_event()

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._count
        self._counted(1, event)
        if depth > MAX_DEPTH:
            self._report.fatal("too-deep", f"nested deeper than {MAX_DEPTH} levels", _span(event))
        self._check_tag(event)
        if event.anchor is not None:
            self._open.add(event.anchor)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(event, depth)
        else:
            node = self._map(event, depth)
        if event.anchor is not None:
            self._open.discard(event.anchor)
            self._anchors[event.anchor] = (node, self._count - before)
        return node

    def _alias(self, event: Any) -> Node:
        name = event.anchor
        if name in self._open:
            self._report.fatal(
                "endless-alias", f"the alias *{name} stands inside what it names", _span(event)
            )
        if name not in self._anchors:
            self._report.add(
                "unknown-alias",
                f"no anchor &{name} before here",
                _span(event),
                f"quote it if it is text: '*{name}'",
            )
            return Scalar(_span(event), None, f"*{name}", unknown=True)
        node, size = self._anchors[name]
        self._counted(size, event)
        return node

    def _counted(self, nodes: int, event: Any) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            self._report.fatal(
                "too-many-nodes",
                f"a recipe has at most {MAX_NODES} values, aliases counted in full",
                _span(event),
            )

    def _check_tag(self, event: Any) -> None:
        if event.tag is not None:
            self._report.add(
                "yaml-tag",
                "a recipe has no tags (!)",
                _span(event),
                "delete it, and quote a value that begins with !",
            )

    def _scalar(self, event: Any) -> Scalar:
        plain = not event.style
        span = _span(event)
        escaped = _NOT_TEXT.search(event.value) if event.style == '"' else None
        if escaped is not None:
            code = f"U+{ord(escaped.group()):04X}"
            self._report.add("not-text", f"the character {code} is no text", span, "delete its escape")
            return Scalar(span, None, event.value, plain=False, unknown=True)
        if not plain:
            return Scalar(span, event.value, event.value, plain=False)
        try:
            return Scalar(span, resolve(event.value), event.value)
        except ScalarTrouble as trouble:
            self._report.add("number", trouble.message, span, trouble.hint)
            return Scalar(span, event.value, event.value, unknown=True)

    def _list(self, start: Any, depth: int) -> ListNode:
        items = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return ListNode(_span(start, event), tuple(items))

    def _map(self, start: Any, depth: int) -> MapNode:
        entries: dict[str, Entry] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(self._next(), depth + 1)
            for entry in self._entry(key, value, flow=start.flow_style):
                first = entries.setdefault(entry.name, entry)
                if first is not entry:
                    self._duplicate(first.key, entry.key)
        return MapNode(_span(start, event), tuple(entries.values()), flow=bool(start.flow_style))

    def _entry(self, key: Node, value: Node, *, flow: bool) -> Iterator[Entry]:
        """The entry of a key and a value; none when the key is refused."""
        if not isinstance(key, Scalar):
            self._report.add("key-not-text", "a key is text", key.span, "quote it if it holds [ ] { or }")
        elif key.plain and key.text == "<<":
            self._report.add("merge-key", "a recipe has no merge keys (<<)", key.span, "write the keys out")
        elif flow and key.plain and isinstance(value, Scalar) and value.empty and _NO_SPACE.match(key.text):
            yield self._split(key)
        else:
            yield Entry(key, value)

    def _split(self, key: Scalar) -> Entry:
        """``{a:0.7}`` is one key in YAML: say so, and go on with what was meant."""
        self._report.add("no-space", f"'{key.text}' needs a space after the colon", key.span)
        name, _, text = key.text.partition(":")
        line, start = key.span.line, key.span.column
        middle = start + len(name)
        value = Span(line, middle + 1, line, middle + 1 + len(text))
        try:
            return Entry(
                Scalar(Span(line, start, line, middle), name, name), Scalar(value, resolve(text), text)
            )
        except ScalarTrouble:
            return Entry(key, Scalar(value, text, text, unknown=True))

    def _duplicate(self, first: Scalar, second: Scalar) -> None:
        line = first.span.line + 1
        self._report.add(
            "duplicate-key", f"'{second.text}' is given twice", second.span, f"first at line {line}"
        )


def _span(start: Any, end: Any = None) -> Span:
    begin = start.start_mark
    last = (start if end is None else end).end_mark
    return Span(begin.line, begin.column, last.line, last.column)
