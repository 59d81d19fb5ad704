"""Values in a notebook: small tables that take the page's own colours, and a build as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from lorapipe.architectures import by_block
from lorapipe.build.events import Event, Listener
from lorapipe.build.result import Built
from lorapipe.build.sweep import Sweep, SweepTable
from lorapipe.plan.plan import Plan
from lorapipe.views.board import Board
from lorapipe.views.cells import glyphs
from lorapipe.views.plan_table import plan_totals, sentence
from lorapipe.views.report.markup import Html, Node, cut, joined, tag
from lorapipe.views.said import Teller
from lorapipe.views.sweeps import axis_text, figure_text, state_text, told_quantities
from lorapipe.views.tables import built_totals, result_text, spec_text
from lorapipe.views.text import bytes_text, path_text, visible
from lorapipe.views.variants import alike, as_written, by_written, spanned, variants_sentence, variants_status
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleSpec

__all__ = [
    "Display",
    "built_html",
    "display_by_ipython",
    "notebook_view",
    "plan_html",
    "spec_html",
    "sweep_html",
]

_STYLE = Html(
    "<style>"
    ".lorapipe table{border-collapse:collapse;margin:.4em 0;color:inherit;font-size:inherit}"
    ".lorapipe th,.lorapipe td{text-align:left;padding:.15em .8em .15em 0;vertical-align:top;"
    "border-bottom:1px solid rgba(128,128,128,.3);background:none;color:inherit}"
    ".lorapipe .n{text-align:right;font-variant-numeric:tabular-nums}"
    ".lorapipe small,.lorapipe .quiet{opacity:.7}"
    ".lorapipe i{display:inline-block;height:.6em;background:#4c8bf5;border-radius:.15em}"
    "</style>"
)
"""Text is the page's own colour, lines a grey that is seen on white and on black."""

_ROWS = 80
"""Rows that are shown of a table; the others are counted."""

_EVERY_S = 0.25

_SAID = 20
"""Lines that are kept above the board."""


def plan_html(plan: Plan) -> str:
    """A row a step, variants together: what it does, what comes of it, what a run would do and why."""
    folder = Path(plan.recipe.file).parent.resolve()
    rows = []
    for written, variants in by_written(plan.steps.values()).items():
        planned = variants[0]
        if len(variants) > 1:
            said = variants_sentence(plan, variants, folder)
            result = spanned(as_written(plan, one) for one in variants)
            rows.append((tag("b", cut(written)), cut(said), result, variants_status(variants)))
            continue
        path = planned.source.path if planned.source else planned.output
        said = sentence(planned, None if path is None else path_text(path, folder))
        status = joined([planned.standing, tag("br"), tag("small", planned.reason)])
        rows.append((tag("b", cut(planned.step.id)), cut(said), result_text(planned), status))
    warnings = [tag("p", f"warning: {warning}") for warning in alike(plan, plan.warnings)]
    title = cut(plan.recipe.name or plan.recipe.file)
    return _page(
        title,
        _table(("step", "does", "gives", "a run would"), rows),
        *warnings,
        *plan_totals(plan).splitlines(),
    )


def built_html(built: Built) -> str:
    """A row an output: where it is, its size, its sha256, how it came; of a sweep its tables."""
    folder = Path(built.plan.recipe.file).parent.resolve()
    rows = [
        (
            cut(path_text(output.path, folder)),
            tag("span", bytes_text(output.size), class_="n"),
            tag("code", output.sha256[:12]),
            "written" if output.written else "up to date",
        )
        for output in built.outputs
        if not built.plan.recipe.steps[output.step].axes
    ]
    of_sweep = [] if built.sweep is None else [_variants(table) for table in built.sweep.tables]
    made = [_table(("output", "size", "sha256", ""), rows)] if rows or not of_sweep else []
    return _page("Built", *made, *of_sweep, built_totals(built))


def sweep_html(sweep: Sweep) -> str:
    """A table for each output: a row a variant, with its values on the axes and what was told of it."""
    return _page("Sweep", *(part for table in sweep.tables for part in (table.written, _variants(table))))


def _variants(table: SweepTable) -> Html:
    quantities = told_quantities(table)
    headings = [*table.axes, *(quantity.name for quantity in quantities), "size", "output", ""]
    rows = [
        [
            *(cut(axis_text(one.values[axis])) for axis in table.axes),
            *(tag("span", figure_text(each, one.figures.get(each.name)), class_="n") for each in quantities),
            "" if one.size is None else tag("span", bytes_text(one.size), class_="n"),
            "" if one.path is None else cut(one.path.name),
            cut(state_text(one)),
        ]
        for one in table.variants
    ]
    return _table(map(cut, headings), rows)


def spec_html(spec: AdapterSpec | CheckpointSpec) -> str:
    """What a LoRA is, block by block; of a checkpoint a line."""
    title = spec_text(spec)
    if isinstance(spec, CheckpointSpec):
        return _page(title, bytes_text(sum(tensor.nbytes for tensor in spec.tensors.values())))
    blocks = [
        (*place, [spec.modules[module] for module in modules])
        for place, modules in by_block(spec.family, spec.modules).items()
    ]
    most = max((sum(known.elements for known in of) for _, _, of in blocks), default=1) or 1
    rows = [_block_row(model, block, of, most) for model, block, of in blocks]
    return _page(title, _table(("model", "block", "modules", "rank", "parameters"), rows))


def _block_row(model: str, block: str, of: Sequence[ModuleSpec], most: int) -> tuple[Node, ...]:
    ranks = sorted({known.rank for known in of if known.rank})
    size = sum(known.elements for known in of)
    rank = "-" if not ranks else str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]}-{ranks[-1]}"
    bar = joined([tag("i", style=f"width:{6 * size / most:.2f}em"), f" {size:,}"])
    return cut(model), cut(block), tag("span", str(len(of)), class_="n"), rank, bar


def _table(headings: Iterable[str], rows: Sequence[Sequence[Node]]) -> Html:
    head = tag("tr", *(tag("th", heading, scope="col") for heading in headings))
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows[:_ROWS]]
    if len(rows) > _ROWS:
        body.append(tag("tr", tag("td", f"and {len(rows) - _ROWS} more", class_="quiet")))
    return tag("table", tag("thead", head), tag("tbody", *body))


def _page(title: str, *parts: Node) -> str:
    under = [part if isinstance(part, Html) else tag("small", part) for part in parts if part]
    return tag("div", _STYLE, tag("b", title), *under, class_="lorapipe")


Update = Callable[[str], object]
Display = Callable[[str], Update]
"""Puts HTML on a notebook's page, and gives what replaces it there."""


def display_by_ipython(html: str) -> Update:
    """A :data:`Display` inside of IPython, which is there where this is called."""
    ipython: Any = import_module("IPython.display")
    handle = ipython.display(ipython.HTML(html), display_id=True)
    return lambda other: handle.update(ipython.HTML(other))


@contextmanager
def notebook_view(display: Display, teller: Teller) -> Iterator[Listener]:
    """Draw the build on the page, four times a second at most; its last state stays there."""
    board, said = Board(), list[str]()
    update, drawn = display(_board_html(board, said)), time.monotonic()

    def tell(event: Event) -> None:
        nonlocal drawn
        board.tell(event)
        said.extend(teller.lines(event))
        if time.monotonic() - drawn >= _EVERY_S:
            update(_board_html(board, said))
            drawn = time.monotonic()

    try:
        yield tell
    finally:
        update(_board_html(board, said))


def _board_html(board: Board, said: Sequence[str]) -> str:
    lines = [visible(line) for line in said[-_SAID:]]
    lines += [line.plain for line in board.lines(90, 40, glyphs("utf-8"))]
    return tag("pre", *(node for line in lines for node in (line, Html("\n"))))
