"""The part of the page on LoRAs that meet: who agrees, who fights, where."""

from __future__ import annotations

from collections.abc import Sequence

from lorapipe.build.looking.report import Meeting
from lorapipe.views.report import charts
from lorapipe.views.report.elements import Cell, facts, folded, note, picture, section, table
from lorapipe.views.report.markup import Html, joined, name, tag
from lorapipe.views.report.numerals import Numeral, count, percent, signed, value
from lorapipe.weights.overlaps import Overlap, together

__all__ = ["meeting_part"]

_MOST = 12
"""Modules of a pair that are named at each end."""

_LEAST = 0.1
"""The cosine at which the scale of bars ends, if none is larger: what is next to nothing looks like it."""

_COLUMNS = ("cosine", "by chance ±", "cancels", "outputs shared", "by chance", "inputs shared", "by chance")


def meeting_part(meetings: Sequence[Meeting]) -> Html | None:
    """Every pair as a row, then each pair block by block."""
    if not meetings:
        return None
    rows: list[list[Cell]] = [
        [
            name(f"{m.one} \N{MULTIPLICATION SIGN} {m.two}"),
            count(len(m.overlaps)),
            count(_opposed(m)),
            *_cells(_all(m)),
        ]
        for m in meetings
    ]
    headings = ("pair", "modules in common", "opposed", *_COLUMNS)
    told = note(
        "At strengths of the same sign a positive cosine adds up and a negative one cancels; at strengths of "
        "opposite sign it is the other way round. A module is opposed where its cosine is further below zero "
        "than chance takes it. 'Cancels' is the share of what two LoRAs have in common that cancels: 0 % "
        "where all of it adds up, 50 % where they have nothing to do with each other. 'Shared' is how much "
        "of the smaller one's directions lies in the other's: 0 % for none, 100 % for all."
    )
    pairs = [_pair(meeting, number) for number, meeting in enumerate(meetings, start=1)]
    return section("pairs", "LoRAs together", told, table("Pairs of LoRAs", headings, rows), *pairs)


def _pair(meeting: Meeting, number: int) -> Html:
    ident = f"pair-{number}"
    blocks = [
        (model, block or "others", modules, together(meeting.overlaps[module] for module in modules))
        for (model, block), modules in meeting.blocks.items()
    ]
    drawn = [
        charts.Bar(
            block, found.cosine or 0.0, signed(found.cosine).words, _told(found), group=model or "modules"
        )
        for model, block, _, found in blocks
    ]
    named = f"{meeting.one} and {meeting.two}"
    told = "The cosine of the two deltas in each block: to the right they add up, to the left they cancel."
    picked = picture(
        ident, f"Cosines of {named}", told, charts.bars(drawn, least=_LEAST, signed=True), fit=True
    )
    rows: list[list[Cell]] = [
        [name(block), name(model), count(len(modules)), count(_count(meeting, modules)), *_cells(found)]
        for model, block, modules, found in blocks
    ]
    headings = ("block", "model", "modules", "opposed", *_COLUMNS)
    return joined(
        [
            tag("h3", name(meeting.one), " and ", name(meeting.two)),
            facts([("cosine", signed(_all(meeting).cosine)), ("opposed modules", count(_opposed(meeting)))]),
            picked,
            table(f"Blocks of {named}", headings, rows),
            folded("Modules that agree and oppose most", _ends(meeting, named)),
        ]
    )


def _ends(meeting: Meeting, named: str) -> Html:
    ordered = sorted(meeting.overlaps, key=lambda module: meeting.overlaps[module].cosine or 0.0)
    shown = ordered if len(ordered) <= 2 * _MOST else [*ordered[:_MOST], *ordered[-_MOST:]]
    rows: list[list[Cell]] = [[name(str(module)), *_cells(meeting.overlaps[module])] for module in shown]
    return table(f"Modules of {named}, the most opposed first", ("module", *_COLUMNS), rows)


def _cells(found: Overlap) -> list[Numeral]:
    return [
        signed(found.cosine),
        value(found.noise),
        percent(found.conflict),
        percent(found.outputs_shared),
        percent(found.outputs_by_chance),
        percent(found.inputs_shared),
        percent(found.inputs_by_chance),
    ]


def _told(found: Overlap) -> tuple[str, ...]:
    return (
        f"cosine {signed(found.cosine).words}",
        f"{percent(found.conflict).words} cancels",
        f"outputs shared {percent(found.outputs_shared).words}",
        f"inputs shared {percent(found.inputs_shared).words}",
    )


def _all(meeting: Meeting) -> Overlap:
    return together(meeting.overlaps.values())


def _opposed(meeting: Meeting) -> int:
    return sum(found.opposed for found in meeting.overlaps.values())


def _count(meeting: Meeting, modules: Sequence[object]) -> int:
    return sum(found.opposed for module, found in meeting.overlaps.items() if module in set(modules))
