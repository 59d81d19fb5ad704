"""What came of a sweep, as a table over its axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorapipe.build.sweep import Quantity, Sweep, SweepTable, Variant
from lorapipe.recipe.model import JSON
from lorapipe.views.tables import print_table
from lorapipe.views.text import bytes_text, path_text, visible

__all__ = [
    "axis_text",
    "figure_text",
    "print_sweep",
    "state_text",
    "sweep_table",
    "told_quantities",
    "values_text",
]

_MOST_ROWS = 60
"""Variants of an output that a terminal is given; a log and the JSON have all."""

_MOST_FIGURES = 4
"""Quantities that stand beside each other, where there is room."""

_WIDE = 10_000

_STYLES = {"written": "", "up to date": "green", "held back": "red", "does not hold": "red", "holds": "green"}


def print_sweep(sweep: Sweep, folder: Path, console: Console) -> None:
    """Print a table for each output of a sweep, under its name where there are several."""
    for number, table in enumerate(sweep.tables):
        if len(sweep.tables) > 1:
            console.print(Text("\n" * bool(number) + visible(table.written), style="bold"))
        shown = _shown(table.variants) if console.is_terminal else table.variants
        print_table(_fitting(table, folder, shown, console), console)
        if rest := len(table.variants) - len(shown):
            console.print(Text(f"and {rest} more: --json has all of them", style="dim"))


def _fitting(table: SweepTable, folder: Path, variants: Sequence[Variant], console: Console) -> Table:
    """The table with as many figures as leave a row on one line of a terminal; with one at least."""
    most = min(_MOST_FIGURES, len(told_quantities(table)))
    wide = console.options.update(width=_WIDE)
    for figures in range(most, 0, -1):
        drawn = sweep_table(table, folder, variants, figures)
        if not console.is_terminal or console.measure(drawn, options=wide).maximum <= console.width:
            return drawn
    return sweep_table(table, folder, variants, min(most, 1))


def sweep_table(table: SweepTable, folder: Path, variants: Sequence[Variant], figures: int) -> Table:
    """A row a variant: its values on the axes, what was told of it, its size and file, how it came.

    Of what tells variants apart so many ``figures`` have columns.
    """
    quantities = told_quantities(table)[:figures]
    saved = any(one.path is not None for one in variants)
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for axis, values in table.axes.items():
        drawn.add_column(
            Text(visible(axis)), overflow="fold", justify="right" if _numeric(values) else "left"
        )
    for quantity in quantities:
        drawn.add_column(Text(visible(quantity.name)), justify="right", overflow="fold")
    if saved:
        drawn.add_column("size", justify="right", no_wrap=True)
        drawn.add_column("output", overflow="fold")
    drawn.add_column("", overflow="fold")
    for one in variants:
        cells = [Text(visible(axis_text(one.values[axis]))) for axis in table.axes]
        cells += [Text(figure_text(quantity, one.figures.get(quantity.name))) for quantity in quantities]
        if saved:
            cells.append(Text("" if one.size is None else bytes_text(one.size)))
            cells.append(Text("" if one.path is None else visible(path_text(one.path, folder))))
        drawn.add_row(*cells, Text(visible(state_text(one)), style=_STYLES.get(one.state, "yellow")))
    return drawn


def told_quantities(table: SweepTable) -> list[Quantity]:
    """The quantities that tell variants apart, or all where none does; of several that are equal one."""
    columns: dict[tuple[str, ...], Quantity] = {}
    for quantity in table.quantities:
        texts = tuple(figure_text(quantity, one.figures.get(quantity.name)) for one in table.variants)
        columns.setdefault(texts, quantity)
    apart = [quantity for column, quantity in columns.items() if len(set(column)) > 1]
    return apart or list(columns.values())


def _shown(variants: Sequence[Variant]) -> list[Variant]:
    """As many as a screen or two have: those that are missing, and the first of the others."""
    if len(variants) <= _MOST_ROWS:
        return list(variants)
    missing = [one.step for one in variants if one.failed][:_MOST_ROWS]
    others = [one.step for one in variants if not one.failed][: _MOST_ROWS - len(missing)]
    kept = {*missing, *others}
    return [one for one in variants if one.step in kept]


def state_text(variant: Variant) -> str:
    """How a variant came: ``held back by good``, where a check does not hold."""
    by = f" by {', '.join(variant.failed)}" if variant.failed and variant.path is not None else ""
    return f"{variant.state}{by}"


def axis_text(value: JSON) -> str:
    """A value of an axis as YAML has it.

    >>> axis_text(True), axis_text(8), axis_text(0.5), axis_text("te*")
    ('true', '8', '0.5', 'te*')
    """
    return str(value).lower() if isinstance(value, bool) else str(value)


def values_text(variant: Variant) -> str:
    """The values of a variant on its axes: ``rank=8, strength=0.5``."""
    return ", ".join(f"{axis}={axis_text(value)}" for axis, value in variant.values.items())


def _numeric(values: Sequence[JSON]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def figure_text(quantity: Quantity, number: float | None) -> str:
    """A figure with its unit; nothing for what was not told.

    Shares have two digits behind the point, of which those close to 100 % need all.

    >>> figure_text(Quantity("energy kept", "share"), 0.99987), figure_text(Quantity("n", "count"), 722.0)
    ('99.99%', '722')
    """
    if number is None:
        return ""
    if quantity.unit == "share":
        return f"{number:.2%}"
    if quantity.unit == "bytes":
        return bytes_text(int(number))
    return f"{number:,.0f}" if quantity.unit == "count" else f"{number:#.4g}".rstrip(".")
