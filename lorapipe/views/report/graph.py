"""The graph of a build as SVG: steps in layers, from what is read to what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lorapipe.views.report.markup import Html, cut, joined, tag

__all__ = ["Arrow", "Box", "drawing", "layers"]

_WIDTH, _HEIGHT, _GAP, _DROP = 236, 66, 18, 44
_MARGIN = 8
_CHARACTERS = 32
"""Of a step and its kind that fit on one line together."""
_SWEEPS = 4
_PASSAGE = 30
_GAP_MARK = ":"
"""How the names of gaps begin, as no step's does."""


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


@dataclass(frozen=True, slots=True)
class _Place:
    """The middle of a step, or of the gap through which an arrow passes a layer, and its upper edge."""

    x: float
    y: float
    width: float


def drawing(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> tuple[float, float, Html]:
    """Width, height, and the shapes: arrows first, so that boxes lie over them."""
    rows, routes = _laid([box.ident for box in boxes], arrows)
    width = 2 * _MARGIN + max(map(_across, rows), default=0.0)
    places: dict[str, _Place] = {}
    for depth, row in enumerate(rows):
        x, y = (width - _across(row)) / 2, _MARGIN + depth * (_HEIGHT + _DROP)
        for ident in row:
            places[ident] = _Place(x + _wide(ident) / 2, y, _wide(ident))
            x += _wide(ident) + _GAP
    height = 2 * _MARGIN + len(rows) * _HEIGHT + max(0, len(rows) - 1) * _DROP
    lines = (_arrow(a, [places[i] for i in route]) for a, route in zip(arrows, routes, strict=True))
    return width, height, joined([_HEAD, *lines, *(_box(box, places[box.ident]) for box in boxes)])


def layers(idents: Sequence[str], arrows: Sequence[Arrow]) -> list[list[str]]:
    """Each step below all that it takes, next to those that it is joined to.

    Steps are given in an order in which each comes after its inputs.
    """
    return [[ident for ident in row if not _is_gap(ident)] for row in _laid(idents, arrows)[0]]


def _laid(idents: Sequence[str], arrows: Sequence[Arrow]) -> tuple[list[list[str]], list[tuple[str, ...]]]:
    """Layers with gaps for the arrows that pass them, and what each arrow goes through.

    Within a layer they are sorted by the mean place of their neighbours, up and down a few times.

    *Source*: Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system
    structures", IEEE Transactions on Systems, Man, and Cybernetics 11(2), 1981.
    """
    depth = _depths(idents, arrows)
    rows: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for ident in idents:
        rows[depth[ident]].append(ident)
    routes: list[tuple[str, ...]] = []
    for number, arrow in enumerate(arrows):
        passed = range(depth[arrow.start] + 1, depth[arrow.end])
        gaps = [f"{_GAP_MARK}{number}.{layer}" for layer in passed]
        for layer, gap in zip(passed, gaps, strict=True):
            rows[layer].append(gap)
        routes.append((arrow.start, *gaps, arrow.end))
    above: dict[str, list[str]] = {ident: [] for row in rows for ident in row}
    below: dict[str, list[str]] = {ident: [] for ident in above}
    for one, two in (pair for route in routes for pair in pairwise(route)):
        above[two].append(one)
        below[one].append(two)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows[1:] if down else rows[-2::-1]:
            _untangle(row, above if down else below, rows)
    return rows, routes


def _depths(idents: Sequence[str], arrows: Sequence[Arrow]) -> dict[str, int]:
    """The layer of each step: below all that it takes; what takes nothing just above its first use."""
    above: dict[str, list[str]] = {ident: [] for ident in idents}
    below: dict[str, list[str]] = {ident: [] for ident in idents}
    for arrow in arrows:
        above[arrow.end].append(arrow.start)
        below[arrow.start].append(arrow.end)
    depth: dict[str, int] = {}
    for ident in idents:
        depth[ident] = max((depth[one] + 1 for one in above[ident]), default=0)
    for ident in idents:
        if not above[ident] and below[ident]:
            depth[ident] = min(depth[one] for one in below[ident]) - 1
    return depth


def _untangle(row: list[str], neighbours: Mapping[str, list[str]], rows: list[list[str]]) -> None:
    """Sort a layer, in place, by the mean place of each step's neighbours; without any it stays."""
    place = {ident: number - len(r) / 2 for r in rows for number, ident in enumerate(r)}

    def mean(ident: str) -> float:
        near = [place[one] for one in neighbours[ident]]
        return sum(near) / len(near) if near else place[ident]

    row.sort(key=mean)


def _is_gap(ident: str) -> bool:
    return ident.startswith(_GAP_MARK)


def _wide(ident: str) -> int:
    return _PASSAGE if _is_gap(ident) else _WIDTH


def _across(row: Sequence[str]) -> float:
    return sum(map(_wide, row)) + max(0, len(row) - 1) * _GAP


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


def _arrow(arrow: Arrow, route: Sequence[_Place]) -> Html:
    """A line from the lower edge of a step, through the gaps on its way, to the upper edge of another."""
    start, end = route[0], route[-1]
    d = f"M{start.x:g} {start.y + _HEIGHT:g}"
    for one, two in pairwise(route):
        y1, y2 = one.y + _HEIGHT, two.y
        bend = (y2 - y1) * 0.6
        d += f"C{one.x:g} {y1 + bend:g} {two.x:g} {y2 - bend:g} {two.x:g} {y2:g}"
        if two is not end:
            d += f"V{y2 + _HEIGHT:g}"
    line = tag("path", d=d, class_="edge dotted" if arrow.dotted else "edge", marker_end="url(#tip)")
    if not arrow.words:
        return line
    # Near its start, where arrows have not met yet.
    x, y = start.x + (route[1].x - start.x) * 0.3, start.y + _HEIGHT + _DROP * 0.42
    return joined([line, tag("text", arrow.words, x=x, y=y, class_="weight", text_anchor="middle")])


def _box(box: Box, place: _Place) -> Html:
    x, y = place.x - place.width / 2, place.y
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
