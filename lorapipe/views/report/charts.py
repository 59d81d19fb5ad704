"""Small charts as SVG: curves, bars to both sides of zero, histograms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from lorapipe.views.report.elements import hint
from lorapipe.views.report.markup import Html, cut, joined, tag

__all__ = ["Bar", "Curve", "bars", "curves", "histogram"]

_LEFT, _BOTTOM, _TOP = 46, 34, 10
_LABEL, _BAR, _PITCH = 104, 13, 18


@dataclass(frozen=True, slots=True)
class Curve:
    """Points from x = 1 on; ``style`` is a class of the style sheet."""

    points: tuple[float, ...]
    style: str
    told: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A length, its words behind it, what a pointer is told; ``group`` is the heading that it is under."""

    label: str
    value: float
    words: str
    told: tuple[str, ...]
    group: str = ""


def curves(
    found: Sequence[Curve], across: str, logarithmic: bool = False, size: tuple[int, int] = (480, 270)
) -> tuple[float, float, Html]:
    """Curves over a rank, from 0 to 1, or over powers of ten below 1."""
    width, height = size
    longest = max((len(curve.points) for curve in found), default=1)
    low = _lowest(found) if logarithmic else 0.0

    def x(rank: float) -> float:
        return _LEFT + (rank - 1) / max(1, longest - 1) * (width - _LEFT - 12)

    def y(value: float) -> float:
        share = (log10(max(value, 10**low)) - low) / -low if logarithmic else value
        return _TOP + (1 - share) * (height - _TOP - _BOTTOM)

    ticks = [10.0**power for power in range(int(low), 1)] if logarithmic else [0.0, 0.25, 0.5, 0.75, 1.0]
    shapes = [*_grid(ticks, y, width, logarithmic), *_ranks(longest, x, height, across)]
    for curve in found:
        points = " ".join(f"{x(rank):.1f},{y(value):.1f}" for rank, value in enumerate(curve.points, start=1))
        shapes.append(tag("polyline", hint(curve.told), points=points, class_=f"curve {curve.style}"))
    return width, height, joined(shapes)


def bars(
    found: Sequence[Bar], least: float = 0.0, signed: bool = False, width: int = 480
) -> tuple[float, float, Html]:
    """A bar a row, from the left, or from the middle where values have signs.

    The scale ends at the longest bar, and not below ``least``.
    """
    room = width - _LABEL - 74
    most = max([abs(bar.value) for bar in found] + [least]) or 1.0
    zero = _LABEL + (room / 2 if signed else 0)
    scale = (room / 2 if signed else room) / most
    shapes, y, group = [], 0.0, ""
    for bar in found:
        if bar.group != group:
            group, y = bar.group, y + 22
            shapes.append(tag("text", cut(group, 60), x=0, y=y - 7, class_="name"))
        shapes += _bar(bar, y, zero, scale)
        shapes.append(tag("text", bar.words, x=_LABEL + room + 8, y=y + 11, class_="small"))
        y += _PITCH
    axis = tag("line", x1=zero, x2=zero, y1=0, y2=max(y, 1.0), class_="axis")
    return width, max(y, 1.0), joined([*shapes, axis])


def histogram(
    values: Iterable[float], across: str, logarithmic: bool = False, size: tuple[int, int] = (480, 210)
) -> tuple[float, float, Html]:
    """How many values lie in each of some equal parts of their range, or of their powers of ten."""
    shown = [value for value in values if not logarithmic or value > 0.0]
    ends = _range([log10(value) for value in shown] if logarithmic else shown, logarithmic)
    low, high = ends
    parts = 20
    counts = [0] * parts
    for value in shown:
        place = log10(value) if logarithmic else value
        counts[min(parts - 1, int((place - low) / (high - low) * parts))] += 1
    width, height = size
    step, most = (width - _LEFT - 12) / parts, max(counts) or 1
    edges = [low + (high - low) * i / parts for i in range(parts + 1)]
    edges = [10**edge for edge in edges] if logarithmic else edges

    def y(number: float) -> float:
        return _TOP + (1 - number / most) * (height - _TOP - _BOTTOM)

    shapes = list(_grid(sorted({0, ceil(most / 2), most}), y, width, False))
    for i, number in enumerate(counts):
        told = hint(f"{number} from {edges[i]:.3g} to {edges[i + 1]:.3g}")
        high_ = y(0) - y(number)
        shapes.append(
            tag(
                "rect", told, x=_LEFT + i * step + 1, y=y(number), width=step - 2, height=high_, class_="fill"
            )
        )
    for i in (0, parts // 2, parts):
        anchor = {0: "start", parts: "end"}.get(i, "middle")
        where = _LEFT + i * step
        shapes.append(
            tag("text", f"{edges[i]:.3g}", x=where, y=height - 18, class_="small", text_anchor=anchor)
        )
    shapes.append(
        tag("text", across, x=(width + _LEFT) / 2, y=height - 3, class_="small", text_anchor="middle")
    )
    return width, height, joined(shapes)


def _bar(bar: Bar, y: float, zero: float, scale: float) -> Iterator[Html]:
    yield tag("text", cut(bar.label, 15), x=_LABEL - 8, y=y + 11, class_="small", text_anchor="end")
    length = abs(bar.value) * scale
    left = zero - length if bar.value < 0 else zero
    style = "minus" if bar.value < 0 else "fill"
    yield tag("rect", hint(bar.label, *bar.told), x=left, y=y, width=length, height=_BAR, class_=style)


def _lowest(found: Sequence[Curve]) -> float:
    """The power of ten below all points, from -1 down to -6."""
    least = min((value for curve in found for value in curve.points if value > 0.0), default=0.1)
    return max(-6.0, min(-1.0, float(floor(log10(least)))))


def _range(values: Sequence[float], logarithmic: bool) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-300) or high == low:
        spread = 0.5 if logarithmic else abs(high) / 2 or 0.5
        return low - spread, high + spread
    return low, high


def _grid(
    ticks: Sequence[float], y: Callable[[float], float], width: int, logarithmic: bool
) -> Iterator[Html]:
    for tick in ticks:
        where = y(tick)
        words = f"{tick:g}" if not logarithmic or tick >= 0.01 else f"1e{log10(tick):.0f}"
        yield tag("line", x1=_LEFT, x2=width - 12, y1=where, y2=where, class_="grid")
        yield tag("text", words, x=_LEFT - 6, y=where + 4, class_="small", text_anchor="end")


def _ranks(longest: int, x: Callable[[float], float], height: int, across: str) -> Iterator[Html]:
    for rank in sorted({1, ceil(longest / 2), longest}):
        yield tag("text", str(rank), x=x(rank), y=height - 18, class_="small", text_anchor="middle")
    yield tag("text", across, x=x((1 + longest) / 2), y=height - 3, class_="small", text_anchor="middle")
