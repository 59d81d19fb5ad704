"""A figure over the axes of a sweep, as SVG: a line over one axis, coloured cells over two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10

from lorapipe.views.report.elements import hint
from lorapipe.views.report.heatmap import CLASSES
from lorapipe.views.report.markup import Html, cut, joined, tag

__all__ = ["Point", "grid", "line"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 500, 230, 60, 6, 34, 40
_INSET = 26
_CELL_WIDTH, _CELL_HEIGHT, _LABEL = 62, 28, 76
_SAME = 1e-9
"""Share of a number up to which others are not told from it."""

_LABELLED = 9
"""Points that have room for their numbers beside each other."""

_LIGHT = 5
"""Steps of the scale, from the lightest, on which text is dark (on a dark page the other way round)."""


@dataclass(frozen=True, slots=True)
class Point:
    """A figure of a variant, or ``None``; how it is written; what a pointer is told."""

    number: float | None
    words: str
    told: tuple[str, ...] = ()


def line(
    name: str, axis: str, labels: Sequence[str], points: Sequence[Point], words: Callable[[float], str]
) -> tuple[float, float, Html]:
    """Width, height, and shapes: a line through the points in their order, broken where one is missing.

    Values of the axis stand at equal distances, whatever they are.
    """
    numbers = [point.number for point in points if point.number is not None]
    ticks = _ticks(min(numbers, default=0.0), max(numbers, default=1.0))
    low, high = ticks[0], ticks[-1]
    step = (_WIDTH - _LEFT - _RIGHT - 2 * _INSET) / max(1, len(points) - 1)

    def x(place: int) -> float:
        return _LEFT + _INSET + place * step

    def y(number: float) -> float:
        return _TOP + (high - number) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    shapes = [tag("text", cut(name, 48), x=0, y=14, class_="name"), *_rules(ticks, y, words)]
    shapes += _places(labels, x, axis)
    shapes += (tag("polyline", points=run, class_="curve main") for run in _runs(points, x, y))
    for place, point in enumerate(points):
        if point.number is not None:
            at = {"cx": x(place), "cy": y(point.number)}
            shapes.append(tag("circle", hint(labels[place], *point.told), r=4.5, class_="dot", **at))
            if len(points) <= _LABELLED:
                x_, y_ = at["cx"], at["cy"] - 9
                shapes.append(tag("text", point.words, x=x_, y=y_, class_="number", text_anchor="middle"))
    return _WIDTH, _HEIGHT, joined(shapes)


def grid(
    name: str,
    axes: tuple[str, str],
    labels: tuple[Sequence[str], Sequence[str]],
    points: Mapping[tuple[int, int], Point],
) -> tuple[float, float, Html]:
    """Width, height, and shapes: a cell for each pair of values (down, across), with its number in it.

    The colours run from the least number, the lightest, to the greatest.
    """
    (down, across), (rows, columns) = axes, labels
    numbers = [point.number for point in points.values() if point.number is not None]
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    width, top = _LABEL + len(columns) * _CELL_WIDTH, 54
    shapes = [
        tag("text", cut(name, 48), x=0, y=14, class_="name"),
        tag("text", cut(down, 12), x=_LABEL - 8, y=top - 8, class_="small", text_anchor="end"),
        tag("text", f"{cut(across, 20)} \N{RIGHTWARDS ARROW}", x=_LABEL, y=top - 24, class_="small"),
    ]
    for place, label in enumerate(columns):
        middle = _LABEL + (place + 0.5) * _CELL_WIDTH
        shapes.append(tag("text", cut(label, 8), x=middle, y=top - 8, text_anchor="middle"))
    for row, label in enumerate(rows):
        y = top + row * _CELL_HEIGHT
        shapes.append(tag("text", cut(label, 11), x=_LABEL - 8, y=y + 18, text_anchor="end"))
        for column in range(len(columns)):
            point = points.get((row, column))
            x = _LABEL + column * _CELL_WIDTH
            told = (f"{down} {label}", f"{across} {columns[column]}")
            shapes += _cell(x, y, point, _share(point, low, high), told)
    return max(width, 200), top + len(rows) * _CELL_HEIGHT + 4, joined(shapes)


def _cell(
    x: float, y: float, point: Point | None, share: float | None, told: tuple[str, ...]
) -> Iterator[Html]:
    place = min(CLASSES - 1, int(share * CLASSES)) if share is not None else None
    colour = "none" if place is None else f"h{place}"
    lines = told if point is None else (*told, *point.told)
    yield tag(
        "rect",
        hint(*lines),
        x=x + 1,
        y=y + 1,
        width=_CELL_WIDTH - 2,
        height=_CELL_HEIGHT - 2,
        rx=3,
        class_=colour,
    )
    style = "small" if place is None else "on-light" if place < _LIGHT else "on-strong"
    words = "" if point is None else cut(point.words, 9)
    yield tag("text", words, x=x + _CELL_WIDTH / 2, y=y + 18, class_=f"{style} cell", text_anchor="middle")


def _share(point: Point | None, low: float, high: float) -> float | None:
    """Where a number is between the least and the greatest; the middle where all are equal."""
    if point is None or point.number is None:
        return None
    return (point.number - low) / (high - low) if high > low else 0.5


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that the figures lie between: three to six of them."""
    if high - low <= _SAME * max(abs(low), abs(high)):
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    rough = (high - low) / 3
    power = 10.0 ** floor(log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough)
    first, last = floor(low / step), -floor(-high / step)
    # 7 times 0.1 is 0.7, and not 0.7000000000000001.
    digits = max(0, 1 - floor(log10(step)))
    return [round(count * step, digits) for count in range(first, last + 1)]


def _rules(
    ticks: Sequence[float], y: Callable[[float], float], words: Callable[[float], str]
) -> Iterator[Html]:
    for tick in ticks:
        yield tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y(tick), y2=y(tick), class_="grid")
        yield tag("text", words(tick), x=_LEFT - 8, y=y(tick) + 4, class_="small", text_anchor="end")


def _places(labels: Sequence[str], x: Callable[[int], float], axis: str) -> Iterator[Html]:
    """The values of the axis, as many as have room."""
    every = -(-len(labels) // _LABELLED)
    for place, label in enumerate(labels):
        if place % every == 0:
            yield tag("text", cut(label, 9), x=x(place), y=_HEIGHT - 22, class_="small", text_anchor="middle")
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield tag("text", cut(axis, 40), x=middle, y=_HEIGHT - 5, class_="small", text_anchor="middle")


def _runs(points: Sequence[Point], x: Callable[[int], float], y: Callable[[float], float]) -> Iterator[str]:
    """The points of each stretch without a gap, as a polyline takes them."""
    run: list[str] = []
    for place, point in enumerate(points):
        if point.number is None:
            if len(run) > 1:
                yield " ".join(run)
            run = []
        else:
            run.append(f"{x(place):.1f},{y(point.number):.1f}")
    if len(run) > 1:
        yield " ".join(run)
