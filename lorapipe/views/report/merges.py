"""The parts of the page on what a resize keeps and what a merge changes."""

from __future__ import annotations

from collections.abc import Sequence

from lorapipe.build.report import Merged, Resized
from lorapipe.views.report import charts
from lorapipe.views.report.elements import Cell, facts, picture, section, table
from lorapipe.views.report.markup import Html, joined, name, tag
from lorapipe.views.report.numerals import count, percent, value
from lorapipe.weights.shifts import together

__all__ = ["merge_part", "resize_part"]

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
    blocks = [
        (model, block or "others", keys, together(merged.shifts[key] for key in keys))
        for (model, block), keys in merged.blocks.items()
    ]
    drawn = [
        charts.Bar(
            block,
            found.relative,
            percent(found.relative).words,
            (f"changed by {percent(found.relative).words}", f"{len(keys)} tensors"),
            group=model or "tensors",
        )
        for model, block, keys, found in blocks
    ]
    told = "The norm of what is added to the tensors of each block, as a share of their own norm."
    spread = "How many tensors change by how much, as a share of their norm."
    rows: list[list[Cell]] = [
        [
            name(block),
            name(model),
            count(len(keys)),
            percent(found.relative),
            value(found.delta),
            value(found.weight),
        ]
        for model, block, keys, found in blocks
    ]
    shares = [shift.relative for shift in merged.shifts.values()]
    numbers = ("relative change", "norm of the change", "norm before")
    return joined(
        [
            tag("h3", name(merged.step)),
            facts([("tensors changed", count(len(merged.shifts))), ("in all by", percent(whole.relative))]),
            picture(f"merge-{number}", f"What {merged.step} changes", told, charts.bars(drawn), fit=True),
            table(f"Blocks changed by {merged.step}", ("block", "model", "tensors", *numbers), rows),
            picture(
                f"merge-{number}-spread",
                f"Changes of tensors by {merged.step}",
                spread,
                charts.histogram(shares, "relative change", logarithmic=True),
                fit=True,
            ),
            _extremes(merged, numbers),
        ]
    )


def _extremes(merged: Merged, numbers: Sequence[str]) -> Html:
    ordered = sorted(merged.shifts, key=lambda key: -merged.shifts[key].relative)
    half = _MOST // 2
    shown = ordered if len(ordered) <= _MOST else [*ordered[:half], *ordered[-half:]]
    rows: list[list[Cell]] = []
    for key in shown:
        shift = merged.shifts[key]
        rows.append([name(key), percent(shift.relative), value(shift.delta), value(shift.weight)])
    told = f"Tensors that {merged.step} changes most and least"
    return table(told, ("tensor", *numbers), rows)
