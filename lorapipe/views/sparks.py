"""Numbers as small bars of text: eighths of a block, or letters where a terminal has no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

__all__ = ["columns", "spark"]

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_ASCII = " .:-=+*#@"


def spark(values: Sequence[float], *, ascii_only: bool = False) -> str:
    """A bar a value, the largest full; what is above 0 is never nothing, and what is no number is ``!``.

    >>> spark([0.0, 1.0, 4.0, 8.0]), spark([0.0, 1.0, 4.0, 8.0], ascii_only=True)
    (' ▁▄█', ' .=@')
    """
    marks = _ASCII if ascii_only else _EIGHTHS
    top = max((value for value in values if isfinite(value)), default=0.0)
    return "".join(_mark(value, top, marks) for value in values)


def _mark(value: float, top: float, marks: str) -> str:
    if not isfinite(value):
        return "!"
    return marks[max(1, round(8 * value / top))] if value > 0.0 else marks[0]


def columns(values: Sequence[float], height: int, *, ascii_only: bool = False) -> Iterator[str]:
    """A chart of columns, 0 to 1, as lines from the top: a character a value, eight steps a line.

    >>> list(columns([1.0, 0.5, 0.25], 2))
    ['█  ', '██▄']
    """
    marks = _ASCII if ascii_only else _EIGHTHS
    for line in reversed(range(height)):
        filled = (round(8 * height * value) - 8 * line for value in values)
        yield "".join(marks[min(8, max(0, eighths))] for eighths in filled)
