"""The parts of the page on what a resize keeps and what a merge changes."""

from __future__ import annotations

from collections.abc import Sequence

from lorapipe.build.looking.report import Merged, Resized
from lorapipe.views.report import charts
from lorapipe.views.report.elements import Cell, facts, picture, section, table
from lorapipe.views.report.markup import Html, joined, name, tag
from lorapipe.views.report.numerals import count, percent, value
from lorapipe.weights.shifts import Shift, together

__all__ = ["merge_part", "resize_part"]

_NUMBERS = ("relative change", "norm of the change", "norm before")

_MOST = 20
"""Modules or tensors that are named."""


def resize_part(resized: Sequence[Resized]) -> Html | None:
    """What each resize keeps, and where it keeps least."""
    if not resized:
        return None
    return section("resized", "Energy kept", *(_resize(one, n) for n, one in enumerate(resized, start=1)))


def _resize(resized: Resized, number: int) -> Html:
    shares = resized.energy
    mean, worst = resized.mean, resized.worst
    told = "How many modules keep how much of their squared norm."
    drawn = charts.histogram(shares.values(), "energy kept")
    rows: list[list[Cell]] = [
        [name(module), percent(shares[module])] for module in sorted(shares, key=shares.__getitem__)[:_MOST]
    ]
    return joined(
        [
            tag("h3", name(resized.step)),
            facts([("modules", count(len(shares))), ("mean", percent(mean)), ("least", percent(worst))]),
            picture(f"resize-{number}", f"Energy kept by {resized.step}", told, drawn, fit=True),
            table(f"The modules of which {resized.step} keeps least", ("module", "energy kept"), rows),
        ]
    )


def merge_part(merged: Sequence[Merged]) -> Html | None:
    """What each merge changes, block by block."""
    if not merged:
        return None
    return section("merged", "Merged", *(_merge(one, n) for n, one in enumerate(merged, start=1)))


def _merge(merged: Merged, number: int) -> Html:
    whole = together(merged.shifts.values())
    spread = "How many tensors change by how much, as a share of their norm."
    shares = [shift.relative for shift in merged.shifts.values()]
    histogram = charts.histogram(shares, "relative change", logarithmic=True)
    return joined(
        [
            tag("h3", name(merged.step)),
            facts([("tensors changed", count(len(shares))), ("in all by", percent(whole.relative))]),
            _blocks(merged, f"merge-{number}"),
            picture(
                f"merge-{number}-spread", f"Changes of tensors by {merged.step}", spread, histogram, fit=True
            ),
            _extremes(merged),
        ]
    )


def _blocks(merged: Merged, ident: str) -> Html:
    """How far each block is moved, as bars and as a table."""
    bars: list[charts.Bar] = []
    rows: list[list[Cell]] = []
    for (model, block), keys in merged.blocks.items():
        found = together(merged.shifts[key] for key in keys)
        words = percent(found.relative)
        told = (f"changed by {words.words}", f"{len(keys)} tensors")
        bars.append(
            charts.Bar(block or "others", found.relative, words.words, told, group=model or "tensors")
        )
        rows.append([name(block or "others"), name(model), count(len(keys)), *_numbers(found)])
    told_of = "The norm of what is added to the tensors of each block, as a share of their own norm."
    drawn = picture(ident, f"What {merged.step} changes", told_of, charts.bars(bars), fit=True)
    headings = ("block", "model", "tensors", *_NUMBERS)
    return joined([drawn, table(f"Blocks changed by {merged.step}", headings, rows)])


def _numbers(found: Shift) -> list[Cell]:
    return [percent(found.relative), value(found.delta), value(found.weight)]


def _extremes(merged: Merged) -> Html:
    ordered = sorted(merged.shifts, key=lambda key: -merged.shifts[key].relative)
    half = _MOST // 2
    shown = ordered if len(ordered) <= _MOST else [*ordered[:half], *ordered[-half:]]
    rows: list[list[Cell]] = [[name(key), *_numbers(merged.shifts[key])] for key in shown]
    told = f"Tensors that {merged.step} changes most and least"
    return table(told, ("tensor", *_NUMBERS), rows)
