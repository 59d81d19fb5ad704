"""A heat map as SVG: a row a block, a cell a module, in the order of the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lorapipe.views.report.elements import hint
from lorapipe.views.report.markup import Html, cut, joined, tag

__all__ = ["CLASSES", "Cell", "Row", "drawing"]

CLASSES = 8
"""Steps of the scale; the style has a colour for each."""

_CELL, _PITCH, _LABEL, _ACROSS = 11, 12, 104, 48
_HEADING = 22


@dataclass(frozen=True, slots=True)
class Cell:
    """A number from 0 to 1 that chooses the colour, or ``None``; what a pointer is told."""

    share: float | None
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A block and its cells; ``group`` is the model that it belongs to."""

    group: str
    label: str
    cells: tuple[Cell, ...]


def drawing(rows: Sequence[Row], high: str) -> tuple[float, float, Html]:
    """Width, height, and the shapes; ``high`` is what the strongest colour stands for.

    A long row goes on below itself.
    """
    shapes: list[Html] = []
    y, group = 0.0, None
    for row in rows:
        if row.group != group:
            group = row.group
            y += _HEADING
            shapes.append(tag("text", cut(group, 60) or "modules", x=0, y=y - 7, class_="name"))
        shapes.append(
            tag("text", cut(row.label, 15), x=_LABEL - 8, y=y + 9, class_="small", text_anchor="end")
        )
        shapes += _cells(row.cells, y)
        y += _PITCH * max(1, -(-len(row.cells) // _ACROSS)) + 2
    shapes.append(_legend(y + 8, "0", high))
    return _LABEL + _ACROSS * _PITCH, y + 8 + _CELL + 2, joined(shapes)


def _legend(y: float, low: str, high: str) -> Html:
    """The scale: its colours between the numbers that they stand for."""
    cells = (
        tag("rect", x=_LABEL + i * 22, y=y, width=22, height=_CELL, class_=f"h{i}") for i in range(CLASSES)
    )
    ends = (
        tag("text", low, x=_LABEL - 8, y=y + 10, class_="small", text_anchor="end"),
        tag("text", high, x=_LABEL + CLASSES * 22 + 8, y=y + 10, class_="small"),
    )
    return joined([*cells, *ends])


def _cells(cells: Iterable[Cell], y: float) -> Iterator[Html]:
    for number, cell in enumerate(cells):
        x, down = number % _ACROSS, number // _ACROSS
        colour = "none" if cell.share is None else f"h{min(CLASSES - 1, int(cell.share * CLASSES))}"
        yield tag(
            "rect",
            hint(*cell.told),
            x=_LABEL + x * _PITCH,
            y=y + down * _PITCH,
            width=_CELL,
            height=_CELL,
            class_=colour,
        )
