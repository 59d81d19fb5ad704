"""A recipe's text, the spans in it, and the errors found there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from lorapipe.errors import LorapipeError, ManyErrors, Place, RecipeError, gathered

__all__ = ["BREAK", "MAX_ERRORS", "Report", "Source", "Span"]

MAX_ERRORS = 500
"""The most errors reported of one text."""

BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What the YAML scanner counts as the end of a line."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of text, from a line and column (from 0) up to, not including, an end."""

    line: int
    column: int
    end_line: int
    end_column: int


class Source:
    """A recipe's text under the file name that errors give."""

    __slots__ = ("file", "lines", "text")

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.lines = tuple(BREAK.split(text))

    def line(self, number: int) -> str:
        """The line of that number, from 0, or nothing behind the end."""
        return self.lines[number] if 0 <= number < len(self.lines) else ""

    def place(self, span: Span) -> Place:
        """A span as a place; of one over several lines, what lies on the first."""
        text = self.line(span.line)
        end = span.end_column if span.end_line == span.line else len(text)
        return Place(
            file=self.file,
            line=span.line + 1,
            column=span.column + 1,
            width=max(1, end - span.column),
            text=text,
        )

    def span_at(self, index: int, width: int = 1) -> Span:
        """The span of ``width`` characters that begins at an index into the text."""
        before = BREAK.split(self.text[:index])
        line, column = len(before) - 1, len(before[-1])
        return Span(line, column, line, column + width)


class Report:
    """Collects the errors of one recipe, so that none hides another.

    At :data:`MAX_ERRORS` it raises them: a text with more is no recipe.
    """

    __slots__ = ("_errors", "source")

    def __init__(self, source: Source, errors: Iterable[LorapipeError] = ()) -> None:
        self.source = source
        self._errors: list[LorapipeError] = list(errors)

    @property
    def errors(self) -> tuple[LorapipeError, ...]:
        """What was noted, in the order of the text, each once; without a place first.

        What an alias stands for is checked for each use: its errors are one error.
        """
        once = {(_order(error), error.message): error for error in self._errors}
        return tuple(once[key] for key in sorted(once))

    def add(self, code: str, message: str, span: Span, hint: str | None = None) -> None:
        """Note an error in the recipe's text."""
        self.add_error(RecipeError(code, message, hint=hint, where=self.source.place(span)))

    def add_error(self, error: LorapipeError) -> None:
        """Note an error of another class."""
        self._errors.append(error)
        if len(self._errors) == MAX_ERRORS:
            message = f"more than {MAX_ERRORS} errors"
            more = RecipeError("too-many-errors", message, hint="mend these first", where=self.source.file)
            raise ManyErrors([*self.errors, more])

    def fatal(self, code: str, message: str, span: Span, hint: str | None = None) -> NoReturn:
        """Note an error behind which nothing can be read, and raise all."""
        self.add(code, message, span, hint)
        self.raise_errors()
        raise AssertionError("unreachable: an error was just added")

    def raise_errors(self) -> None:
        """Raise what was noted, in the order of the text; return if nothing was."""
        if errors := self.errors:
            raise gathered(errors)


def _order(error: LorapipeError) -> tuple[int, int]:
    where = error.where
    return (where.line, where.column) if isinstance(where, Place) else (0, 0)
