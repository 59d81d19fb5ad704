"""What a YAML scanner complains of, in the words of someone who writes recipes.

libyaml and PyYAML's own scanner word their messages differently; the rules match
what the two share, the first that matches speaks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import yaml

from lorapipe.recipe.source import Source, Span

__all__ = ["explain"]

Finding = tuple[str, str | None, Span]
"""A message, a remedy if there is one, and the span."""

_SPLIT = "quote a value that holds , [ ] { } or #"
_CUT_OFF = re.compile(r"\s(#[^#]*[}\]])")
_INDENT = "indent it like its neighbours"
_COLON_STUCK = re.compile(r"\s*[{\[]?\s*([^\s:#'\"{\[,]+:[^\s/\\,}\]][^\s,}\]]*)")


@dataclass(frozen=True, slots=True)
class _Trouble:
    """A scanner's error: where it gave up, and where what it was reading began."""

    source: Source
    span: Span
    begun: Span
    text: str

    @property
    def char(self) -> str:
        """The character at which the scanner gave up; empty at the end of a line."""
        return self.source.line(self.span.line)[self.span.column : self.span.column + 1]

    @property
    def before(self) -> str:
        """What stands before it on its line."""
        return self.source.line(self.span.line)[: self.span.column]

    @property
    def at_end(self) -> bool:
        """Nothing but blank lines follows."""
        rest = self.source.lines[self.span.line + 1 :]
        return not self.source.line(self.span.line)[self.span.column :].strip() and not any(
            map(str.strip, rest)
        )


def explain(error: yaml.MarkedYAMLError, source: Source) -> Finding:
    """A scanner's or parser's error as a message, a remedy and a span."""
    span = _span(error.problem_mark or error.context_mark)
    begun = span if error.context_mark is None else _span(error.context_mark)
    trouble = _Trouble(source, span, begun, f"{error.context or ''}: {error.problem or ''}")
    for pattern, rule in _RULES:
        if re.search(pattern, trouble.text):
            return rule(trouble)
    return f"not YAML: {error.problem}", None, span


def _span(mark: yaml.Mark | None) -> Span:
    line, column = (0, 0) if mark is None else (mark.line, mark.column)
    return Span(line, column, line, column + 1)


def _stuck_colon(trouble: _Trouble, line: int) -> Finding | None:
    """``key:value`` without a space on that line, if there is one."""
    found = _COLON_STUCK.match(trouble.source.line(line))
    if found is None:
        return None
    span = Span(line, found.start(1), line, found.end(1))
    return f"'{found.group(1)}' needs a space after the colon", None, span


def _tab(trouble: _Trouble) -> Finding:
    return "a tab cannot indent", "use spaces", trouble.span


def _first_character(trouble: _Trouble) -> Finding:
    if trouble.char == "\t":
        return _tab(trouble)
    if not trouble.char:
        return "a value is missing here", None, trouble.span
    return f"a value cannot begin with {trouble.char}", "quote it", trouble.span


def _alias(trouble: _Trouble) -> Finding:
    char = trouble.source.line(trouble.begun.line)[trouble.begun.column]
    return f"a value cannot begin with {char}", "quote it", trouble.begun


def _flow(trouble: _Trouble) -> Finding:
    opening = trouble.source.line(trouble.begun.line)[trouble.begun.column : trouble.begun.column + 1]
    closing = "}" if "mapping" in trouble.text else "]"
    for number in range(trouble.begun.line, trouble.span.line):
        cut = _CUT_OFF.search(trouble.source.line(number))
        if cut is not None:
            span = Span(number, cut.start(1), number, cut.end(1))
            return "' #' begins a comment", "quote a value that holds it", span
    if trouble.at_end:
        return f"this {opening} is never closed", None, trouble.begun
    one_line = trouble.begun.line == trouble.span.line
    hint = _SPLIT if one_line else f"the {opening} of line {trouble.begun.line + 1} is still open"
    return f"expected , or {closing} here", hint, trouble.span


def _quote(trouble: _Trouble) -> Finding:
    return "this quote is never closed", None, trouble.begun


def _escape(trouble: _Trouble) -> Finding:
    return "double quotes know no such escape", "single quotes take \\ as it is", trouble.span


def _second_colon(trouble: _Trouble) -> Finding:
    above = trouble.span.line - 1
    while above >= 0 and not trouble.source.line(above).strip():
        above -= 1
    if re.search(r":\s", trouble.before):
        return "a second ': ' in one line", "quote a value that holds ': '", trouble.span
    stuck = _stuck_colon(trouble, above)
    if stuck is not None:
        return stuck
    column = len(trouble.before) - len(trouble.before.lstrip())
    line = trouble.span.line
    return "a key cannot stand here", _INDENT, Span(line, column, line, trouble.span.column)


def _no_colon(trouble: _Trouble) -> Finding:
    line = trouble.begun.line
    text = trouble.source.line(line).rstrip()
    span = Span(line, trouble.begun.column, line, max(len(text), trouble.begun.column + 1))
    return _stuck_colon(trouble, line) or ("a key needs a colon and a value", None, span)


def _leftover(trouble: _Trouble) -> Finding:
    if trouble.before.strip() or trouble.char in "}])":
        return "a value has ended before this", "quote the whole value", trouble.span
    return "the indentation of this line fits none above", _INDENT, trouble.span


def _no_list(trouble: _Trouble) -> Finding:
    return "a list cannot begin here", "give each '- ' its own line, or write [a, b]", trouble.span


def _block_text(trouble: _Trouble) -> Finding:
    return "text after | or > begins on its own line", "quote a value that begins with | or >", trouble.span


def _directive(trouble: _Trouble) -> Finding:
    return (
        "a recipe has no % directives",
        "delete the line",
        Span(trouble.begun.line, 0, trouble.begun.line, 1),
    )


def _tag(trouble: _Trouble) -> Finding:
    return "a recipe has no tags (!)", "quote a value that begins with !", trouble.begun


_RULES: tuple[tuple[str, Callable[[_Trouble], Finding]], ...] = (
    (r"tab character|'\\t'", _tab),
    (r"block scalar", _block_text),
    (r"scanning an? (?:alias|anchor)", _alias),
    (r"(?:scanning|parsing) a tag|tag handle", _tag),
    (r"directive|incompatible YAML", _directive),
    (r"escape|hexa?decimal number|hexdecimal", _escape),
    (r"quoted scalar: found unexpected (?:end of stream|document)", _quote),
    (r"cannot start any token|node content", _first_character),
    (r"flow (?:mapping|sequence)", _flow),
    (r"mapping values are not allowed|mapping keys are not allowed", _second_colon),
    (r"could not find expected ':'", _no_colon),
    (r"sequence entries are not allowed", _no_list),
    (r"expected key|block end|document start|'-' indicator", _leftover),
)
