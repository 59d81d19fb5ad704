"""Errors as text: the place, the message, the line at fault with a caret under it.

char.yaml:9:29: error: svd-resize has no option 'rnak' - did you mean 'rank'?
     9 |   small: {svd-resize: mixed, rnak: 8}
       |                              ^^^^
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from lorapipe.errors import LorapipeError, ManyErrors, Place
from lorapipe.views.text import path_text, visible

__all__ = ["diagnostic"]

_FEW = 3
"""Errors of one sort that are shown of a step's variants."""

_GUTTER = 6
_WIDEST = 100  # columns of a source line that are shown; the rest is cut around the caret
_CUT = "…"

_BOLD, _RED, _PLAIN = "\x1b[1m", "\x1b[1;31m", "\x1b[0m"


def diagnostic(error: LorapipeError, *, colour: bool = False, folder: Path | None = None) -> str:
    """An error, or many, as lines without a newline at the end.

    Characters that would steer a terminal are shown as escapes, wherever they come from.
    Without ``colour`` the text holds no escape sequence, and is the same everywhere. The file
    at fault is named as it is read from ``folder``.
    """
    if isinstance(error, ManyErrors):
        shown = _folded(error.errors)
        return "\n".join(
            one if isinstance(one, str) else diagnostic(one, colour=colour, folder=folder) for one in shown
        )
    lines = [_headline(error, colour, folder), *(f"  {visible(detail)}" for detail in error.details)]
    if isinstance(error.where, Place) and error.where.text:
        lines += _excerpt(error.where, colour)
    return "\n".join(lines)


def _folded(errors: Sequence[LorapipeError]) -> Iterator[LorapipeError | str]:
    """The errors; of one that many variants of a step have at one place the first few, and how many more."""
    found: dict[object, list[LorapipeError]] = {}
    for number, error in enumerate(errors):
        step, bracket, _ = (error.step or "").partition("[")
        key = (str(error.where), error.code, step) if bracket else number
        found.setdefault(key, []).append(error)
    for of in found.values():
        if len(of) <= _FEW + 1:
            yield from of
            continue
        yield from of[:_FEW]
        step = (of[0].step or "").partition("[")[0]
        yield f"and {len(of) - _FEW} more like this, of other variants of '{visible(step)}'"


def _headline(error: LorapipeError, colour: bool, folder: Path | None) -> str:
    where = str(error.where) if error.where is not None else None
    if folder is not None and isinstance(error.where, str) and Path(error.where).is_absolute():
        where = path_text(Path(error.where), folder)
    if where is None and error.step is not None:
        where = f"step '{error.step}'"
    place = _paint(f"{visible(where)}: ", _BOLD, colour) if where else ""
    module = f"{visible(error.module)}: " if error.module is not None else ""
    hint = f" - {visible(error.remedy)}" if error.remedy is not None else ""
    return f"{place}{_paint('error:', _RED, colour)} {module}{visible(error.message)}{hint}"


def _excerpt(place: Place, colour: bool) -> list[str]:
    """The source line with its number, and the caret line."""
    cells = [visible(char) for char in (place.text or "")]
    first = min(place.column - 1, len(cells))
    last = min(first + max(place.width, 1), len(cells))
    left, right = _window(cells, first, last)
    before = (_CUT if left else "") + "".join(cells[left:first])
    after = "".join(cells[first:right]) + (_CUT if right < len(cells) else "")
    carets = "^" * max(1, _columns("".join(cells[first : min(last, right)])))
    gutter = " " * (_GUTTER + 1)
    return [
        f"{place.line:>{_GUTTER}} | {before}{after}".rstrip(),
        f"{gutter}| {' ' * _columns(before)}{_paint(carets, _RED, colour)}",
    ]


def _window(cells: Sequence[str], first: int, last: int) -> tuple[int, int]:
    """The part of a line to show, as indices: all of it, or what lies around the span."""
    if _columns("".join(cells)) <= _WIDEST:
        return 0, len(cells)
    left = right = first
    room = _WIDEST - 2
    while right < len(cells) and right < last and _columns(cells[right]) <= room:
        room -= _columns(cells[right])
        right += 1
    grows = True
    while grows:
        grows = False
        if left > 0 and _columns(cells[left - 1]) <= room:
            left, grows = left - 1, True
            room -= _columns(cells[left])
        if right < len(cells) and _columns(cells[right]) <= room:
            room -= _columns(cells[right])
            right, grows = right + 1, True
    return left, right


def _columns(text: str) -> int:
    """The width of printable text on a terminal: East Asian wide characters take two columns."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _paint(text: str, style: str, colour: bool) -> str:
    return f"{style}{text}{_PLAIN}" if colour else text
