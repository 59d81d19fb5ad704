"""Where things stand in a text: lines, comments, the ends of ``|`` and ``>``, which the parser blurs."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from lorapipe.recipe.formatting.tree import Comment
from lorapipe.recipe.source import BREAK, Source

__all__ = ["COMMENT", "Marks", "end_of", "index_of"]

COMMENT = re.compile("#[^\n\r\x85\u2028\u2029]*")
_SPACED = re.compile(r"(?:\s|&[\w-]+)*")
_PASSED = re.compile(rf"(?:\s|&[\w-]+|{COMMENT.pattern})*")


class Marks:
    """The lines and comments of a text, given the parser's events.

    ``blocks`` maps the index of a block scalar to the line behind it; ``starts`` are the lines'.
    """

    def __init__(self, source: Source, events: Sequence[Any]) -> None:
        self._source = source
        self._text = source.text
        self.starts = (0, *(found.end() for found in BREAK.finditer(source.text)))
        self.blocks = {index_of(event): self._block_end(event) for event in events if _is_block_text(event)}
        self._block_ends = frozenset(self.blocks.values())
        self.comments = tuple(self._find_comments([e for e in events if isinstance(e, yaml.ScalarEvent)]))

    def line_of(self, index: int) -> int:
        return bisect_right(self.starts, index) - 1

    def start_of(self, line: int) -> int:
        return self.starts[line] if line < len(self.starts) else len(self._text)

    def skip(self, index: int, *, comments: bool = True) -> int:
        """The first character from ``index`` that is no space, no comment and of no anchor."""
        pattern = _PASSED if comments else _SPACED
        found = pattern.match(self._text, index)
        assert found is not None, "the pattern matches nothing as well"
        return found.end()

    def blank_above(self, line: int) -> bool:
        return line > 0 and not self._source.line(line - 1).strip() and line not in self._block_ends

    def _block_end(self, event: Any) -> int:
        """The line behind a scalar of ``|`` or ``>``: empty lines at its end are its own if it keeps them."""
        content = self.skip(index_of(event), comments=False)
        first, line = self.line_of(content), int(event.end_mark.line) + bool(event.end_mark.column)
        keeps = "+" in self._text[content : content + 3].partition("#")[0].partition("\n")[0]
        while not keeps and line > first + 1 and not self._source.line(line - 1).strip(" "):
            line -= 1
        return line

    def _find_comments(self, scalars: Sequence[Any]) -> Iterator[Comment]:
        position = 0
        for start, end in [*self._scalars(scalars), (len(self._text), len(self._text))]:
            for found in COMMENT.finditer(self._text, position, max(position, start)):
                line = self.line_of(found.start())
                column = found.start() - self.starts[line]
                own = not self._source.line(line)[:column].strip()
                yield Comment(
                    found[0].rstrip(), found.start(), line, column, own, own and self.blank_above(line)
                )
            position = max(position, end)

    def _scalars(self, scalars: Sequence[Any]) -> Iterator[tuple[int, int]]:
        for event in scalars:
            first = index_of(event)
            last = self.blocks.get(first)
            content = self.skip(first, comments=False) if event.anchor else first
            yield content, end_of(event) if last is None else self.start_of(last)


def index_of(event: Any) -> int:
    """The index of a value's first character, its anchor's if it has one."""
    return int(event.start_mark.index)


def end_of(event: Any) -> int:
    """The index behind a value's last character."""
    return int(event.end_mark.index)


def _is_block_text(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.style in ("|", ">")
