"""The part of the page on a sweep: each figure over the axes, and all of them as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lorapipe.build.sweep import Quantity, Sweep, SweepTable, Variant
from lorapipe.recipe.matrix import identity
from lorapipe.recipe.model import JSON
from lorapipe.views.report import overaxes
from lorapipe.views.report.elements import Cell, facts, note, picture, section, table
from lorapipe.views.report.markup import Html, cut, name, tag
from lorapipe.views.report.numerals import UNKNOWN, Numeral, count, size
from lorapipe.views.sweeps import axis_text, figure_text, state_text, told_quantities

__all__ = ["sweep_part"]

_SIZE = Quantity("size", "bytes")

_MOST_DOWN, _MOST_ACROSS = 48, 16
"""Values of two axes that a picture has; of more there is the table alone."""


def sweep_part(sweep: Sweep | None) -> Html | None:
    """Pictures and a table for each output of a sweep."""
    if sweep is None or not sweep.tables:
        return None
    several = len(sweep.tables) > 1
    parts = (part for n, found in enumerate(sweep.tables, 1) for part in _table(found, n, several=several))
    return section("sweep", "Sweep", *parts)


def _table(found: SweepTable, number: int, *, several: bool) -> Iterator[Html]:
    if several:
        yield tag("h3", name(found.written))
    yield facts(_facts(found))
    pictures = list(_pictures(found, f"sweep-{number}"))
    if pictures:
        yield tag("div", *pictures, class_="multiples")
    elif len(_spread(found)) > 2:
        yield note("Over more than two axes there is no picture: the table sorts by any column.")
    yield _rows(found)


def _facts(found: SweepTable) -> Iterator[tuple[str, Cell]]:
    yield "variants", count(len(found.variants))
    for axis, values in found.axes.items():
        yield axis, name(", ".join(map(axis_text, values)))
    states: dict[str, int] = {}
    for one in found.variants:
        states[state_text(one)] = states.get(state_text(one), 0) + 1
    for state, number in states.items():
        yield state, count(number)


def _spread(found: SweepTable) -> dict[str, tuple[JSON, ...]]:
    """The axes on which variants differ."""
    return {axis: values for axis, values in found.axes.items() if len(values) > 1}


def _pictures(found: SweepTable, ident: str) -> Iterator[Html]:
    """Each figure that tells variants apart, over one axis or two."""
    spread = _spread(found)
    if not 1 <= len(spread) <= 2:
        return
    quantities = [*told_quantities(found), _SIZE]
    for number, quantity in enumerate(quantities, start=1):
        if len({_number(quantity, one) for one in found.variants} - {None}) < 2:
            continue
        if len(spread) == 1:
            drawn, told = _line(found, quantity, *next(iter(spread.items())))
        elif (cells := _grid(found, quantity, spread)) is not None:
            drawn, told = cells
        else:
            return
        title = f"{quantity.name} of {found.written}"
        yield picture(f"{ident}-{number}", title, told, drawn)


def _line(
    found: SweepTable, quantity: Quantity, axis: str, values: Sequence[JSON]
) -> tuple[tuple[float, float, Html], str]:
    by_value = {identity(one.values[axis]): one for one in found.variants}
    points = [_point(quantity, by_value.get(identity(value))) for value in values]
    labels = [axis_text(value) for value in values]
    drawn = overaxes.line(quantity.name, axis, labels, points, lambda tick: _tick(quantity, tick))
    return drawn, _extremes(quantity, found)


def _grid(
    found: SweepTable, quantity: Quantity, spread: Mapping[str, Sequence[JSON]]
) -> tuple[tuple[float, float, Html], str] | None:
    """Over two axes, of which the one with fewer values goes across."""
    down, across = sorted(spread, key=lambda axis: -len(spread[axis]))
    rows, columns = spread[down], spread[across]
    if len(rows) > _MOST_DOWN or len(columns) > _MOST_ACROSS:
        return None
    places = [{identity(value): place for place, value in enumerate(values)} for values in (rows, columns)]
    points = {
        (places[0][identity(one.values[down])], places[1][identity(one.values[across])]): _point(
            quantity, one
        )
        for one in found.variants
    }
    labels = (list(map(axis_text, rows)), list(map(axis_text, columns)))
    drawn = overaxes.grid(quantity.name, (down, across), labels, points)
    return drawn, _extremes(quantity, found)


def _number(quantity: Quantity, one: Variant) -> float | None:
    if quantity is _SIZE:
        return None if one.size is None else float(one.size)
    return one.figures.get(quantity.name)


def _point(quantity: Quantity, one: Variant | None) -> overaxes.Point:
    if one is None:
        return overaxes.Point(None, "")
    number = _number(quantity, one)
    words = figure_text(quantity, number) or (one.state if one.failed else UNKNOWN)
    return overaxes.Point(number, words, (f"{quantity.name} {words}", state_text(one)))


def _tick(quantity: Quantity, number: float) -> str:
    if quantity.unit == "share":
        return f"{number * 100:.4g}%"
    return f"{number:.4g}" if quantity.unit == "number" else figure_text(quantity, number)


def _extremes(quantity: Quantity, found: SweepTable) -> str:
    """From where to where a figure goes."""
    known = [(n, one) for one in found.variants if (n := _number(quantity, one)) is not None]
    (low, least), (high, most) = (end(known, key=lambda pair: pair[0]) for end in (min, max))
    said = (
        f"{figure_text(quantity, number)} at {_where(one)}" for number, one in ((low, least), (high, most))
    )
    return f"From {' to '.join(said)}."


def _where(one: Variant) -> str:
    return ", ".join(f"{axis} {axis_text(value)}" for axis, value in one.values.items())


def _rows(found: SweepTable) -> Html:
    """A row a variant; numbers on an axis sort as numbers."""
    quantities = [*found.quantities, _SIZE]
    saved = any(one.path is not None for one in found.variants)
    headings = [*found.axes, *(quantity.name for quantity in quantities[: None if saved else -1])]
    rows = []
    for one in found.variants:
        cells: list[Cell] = [_axis(one.values[axis]) for axis in found.axes]
        for quantity in quantities[: None if saved else -1]:
            number = _number(quantity, one)
            words = figure_text(quantity, number) or UNKNOWN
            cells.append(size(one.size) if quantity is _SIZE else Numeral(number, words))
        cells.append(tag("span", state_text(one), class_="whole"))
        if saved:
            cells.append(tag("bdi", cut(one.path.name if one.path else "", 60), class_="whole"))
        rows.append(cells)
    return table(f"Variants of {found.written}", [*headings, "state", *(["file"] if saved else [])], rows)


def _axis(value: JSON) -> Cell:
    text = axis_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Numeral(float(value), text)
    return name(text)
