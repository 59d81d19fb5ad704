"""The graph of a build as SVG: steps in layers, from what is read to what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorapipe.views.report.markup import Html, cut, joined, tag

__all__ = ["Arrow", "Box", "drawing", "layers"]

_WIDTH, _HEIGHT, _GAP, _DROP = 236, 66, 18, 44
_MARGIN = 8
_CHARACTERS = 32
"""Of a step and its kind that fit on one line together."""
_SWEEPS = 4


@dataclass(frozen=True, slots=True)
class Box:
    """A step: its kind, lines of text, the class that says how it stands, and what a pointer is told."""

    ident: str
    kind: str
    lines: tuple[str, ...]
    state: str
    told: str


@dataclass(frozen=True, slots=True)
class Arrow:
    """From a step to one that takes it, with its weight; dotted from a check to what it holds back."""

    start: str
    end: str
    words: str = ""
    dotted: bool = False


def drawing(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> tuple[float, float, Html]:
    """Width, height, and the shapes: arrows first, so that boxes lie over them."""
    rows = layers([box.ident for box in boxes], arrows)
    widest = max(len(row) for row in rows) if rows else 0
    width = 2 * _MARGIN + widest * _WIDTH + max(0, widest - 1) * _GAP
    places: dict[str, tuple[float, float]] = {}
    for depth, row in enumerate(rows):
        left = (width - len(row) * _WIDTH - (len(row) - 1) * _GAP) / 2
        for number, ident in enumerate(row):
            places[ident] = (left + number * (_WIDTH + _GAP), _MARGIN + depth * (_HEIGHT + _DROP))
    height = 2 * _MARGIN + len(rows) * _HEIGHT + max(0, len(rows) - 1) * _DROP
    shapes = [*(_arrow(arrow, places) for arrow in arrows), *(_box(box, places[box.ident]) for box in boxes)]
    return width, height, joined([_HEAD, *shapes])


def layers(idents: Sequence[str], arrows: Sequence[Arrow]) -> list[list[str]]:
    """Each step below all that it takes, next to those that it is joined to.

    Steps are given in an order in which each comes after its inputs. Within a layer they are sorted by
    the mean place of their neighbours, up and down a few times (Sugiyama, Tagawa and Toda, "Methods
    for visual understanding of hierarchical system structures", 1981).
    """
    above: dict[str, list[str]] = {ident: [] for ident in idents}
    below: dict[str, list[str]] = {ident: [] for ident in idents}
    for arrow in arrows:
        above[arrow.end].append(arrow.start)
        below[arrow.start].append(arrow.end)
    depth: dict[str, int] = {}
    for ident in idents:
        depth[ident] = max((depth[one] + 1 for one in above[ident]), default=0)
    for ident in reversed(idents):  # what is read stands just above its first use
        if not above[ident] and below[ident]:
            depth[ident] = min(depth[one] for one in below[ident]) - 1
    rows: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for ident in idents:
        rows[depth[ident]].append(ident)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows[1:] if down else rows[-2::-1]:
            _untangle(row, above if down else below, rows)
    return rows


def _untangle(row: list[str], neighbours: Mapping[str, list[str]], rows: list[list[str]]) -> None:
    """Sort a layer, in place, by the mean place of each step's neighbours; without any it stays."""
    place = {ident: number - len(r) / 2 for r in rows for number, ident in enumerate(r)}

    def mean(ident: str) -> float:
        near = [place[one] for one in neighbours[ident]]
        return sum(near) / len(near) if near else place[ident]

    row.sort(key=mean)


_HEAD = tag(
    "defs",
    tag(
        "marker",
        tag("path", d="M0 0 8 4 0 8z", class_="tip"),
        id="tip",
        markerWidth="8",
        markerHeight="8",
        refX="8",
        refY="4",
        orient="auto",
    ),
)


def _arrow(arrow: Arrow, places: Mapping[str, tuple[float, float]]) -> Html:
    (x1, y1), (x2, y2) = places[arrow.start], places[arrow.end]
    x1, x2, y1 = x1 + _WIDTH / 2, x2 + _WIDTH / 2, y1 + _HEIGHT
    bend = max(_DROP * 0.6, (y2 - y1) / 2)
    d = f"M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}"
    line = tag("path", d=d, class_="edge dotted" if arrow.dotted else "edge", marker_end="url(#tip)")
    if not arrow.words:
        return line
    # Near its start, where arrows have not met yet.
    x, y = x1 + (x2 - x1) * 0.3, y1 + (y2 - y1) * 0.42
    return joined([line, tag("text", arrow.words, x=x, y=y, class_="weight", text_anchor="middle")])


def _box(box: Box, place: tuple[float, float]) -> Html:
    x, y = place
    frame = tag("rect", x=x, y=y, width=_WIDTH, height=_HEIGHT, rx=7, class_=f"box {box.state}")
    bar = tag("rect", x=x, y=y + 10, width=4, height=_HEIGHT - 20, class_=f"bar {box.state}")
    ident = cut(box.ident, max(14, _CHARACTERS - len(box.kind)))
    kind = cut(box.kind, max(8, _CHARACTERS - len(ident)))
    head = (
        tag("text", ident, x=x + 14, y=y + 21, class_="name"),
        tag("text", kind, x=x + _WIDTH - 10, y=y + 21, class_="small", text_anchor="end"),
    )
    lines = (
        tag("text", cut(line, _CHARACTERS + 4), x=x + 14, y=y + 38 + 16 * number, class_="small")
        for number, line in enumerate(box.lines)
    )
    return tag("g", tag("title", cut(box.told, 400)), frame, bar, *head, *lines)
