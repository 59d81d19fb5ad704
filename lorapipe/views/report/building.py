"""The part of the page that tells of the build: its graph, steps, files, checks, what was left out."""

from __future__ import annotations

from collections.abc import Iterator

from lorapipe.build.looking.report import Report
from lorapipe.plan.plan import PlannedStep, Status
from lorapipe.steps.kind import Materialise
from lorapipe.views.report import graph
from lorapipe.views.report.elements import Cell, note, picture, section, table
from lorapipe.views.report.markup import Html, name, tag
from lorapipe.views.report.numerals import UNKNOWN, count, seconds, size, value
from lorapipe.views.tables import result_text
from lorapipe.views.text import bytes_text, path_text

__all__ = ["build_part", "check_part", "file_part", "lost_part", "step_state", "step_words"]

_MOST_LOST = 300
"""Modules without a place that are named on the page."""

_STATES = {
    Status.UP_TO_DATE: "cached",
    Status.IN_STORE: "cached",
    Status.UNUSED: "idle",
    Status.HELD: "stopped",
    Status.FAILS: "stopped",
}
_HOW = {
    "store": "cached",
    "fetched": "cached",
    "found": "cached",
    "does not hold": "stopped",
    "held back": "stopped",
}


def step_state(report: Report, planned: PlannedStep) -> str:
    """How a step stands, as a class of the style sheet: built, cached, due, idle, stopped."""
    ran = report.ran.get(planned.step.id)
    if ran is not None:
        return _HOW.get(ran.how, "built")
    return _STATES.get(planned.status, "due")


def step_words(report: Report, planned: PlannedStep) -> str:
    """How a step stands, in words: what the run told, else what a run would do."""
    ran = report.ran.get(planned.step.id)
    if ran is not None:
        return {"store": "from the store", "fetched": "from the shared store"}.get(ran.how, ran.how)
    if planned.kind.materialise is Materialise.LAZY and planned.status is Status.RUN:
        return "read when it is used" if planned.source is not None else planned.reason
    return planned.standing


def build_part(report: Report) -> Html:
    """The graph, and its steps as a table."""
    boxes = [_box(report, planned) for planned in report.plan.steps.values()]
    told = (
        "From what is read, above, to what is written, below. A number on an arrow is a weight other than "
        "1; a dotted arrow leads from a check to what it holds back."
    )
    keys = (tag("span", tag("i", class_=f"key {state}"), words) for state, words in _LEGEND)
    drawn = picture("graph", "The graph of the build", told, graph.drawing(boxes, list(_arrows(report))))
    rows = [_row(report, planned) for planned in report.plan.steps.values()]
    headings = ("step", "kind", "of", "result", "state", "time", "read", "written", "memory")
    return section(
        "build", "The build", tag("p", *keys, class_="keys"), drawn, table("Steps", headings, rows)
    )


_LEGEND = (
    ("built", "built in this run"),
    ("cached", "up to date, or from the store"),
    ("due", "will run"),
    ("idle", "not needed"),
    ("stopped", "does not hold, held back"),
)


def _box(report: Report, planned: PlannedStep) -> graph.Box:
    path = planned.source.path if planned.source is not None else planned.output
    ran = report.ran.get(planned.step.id)
    sizes = [] if path is None else [_size(report, planned)]
    times = [] if ran is None else [seconds(ran.seconds).words]
    state = [word for word in (step_words(report, planned), *times, *sizes) if word]
    what = result_text(planned) if path is None else path.name
    told = f"{planned.step.id}: {planned.step.kind}. {result_text(planned)}. {', '.join(state)}"
    lines = (what, " \N{MIDDLE DOT} ".join(state))
    return graph.Box(planned.step.id, planned.step.kind, lines, step_state(report, planned), told)


def _size(report: Report, planned: PlannedStep) -> str:
    known = next((f.size for f in report.files if f.step == planned.step.id), None)
    return "" if known is None else bytes_text(known)


def _arrows(report: Report) -> Iterator[graph.Arrow]:
    for planned in report.plan.steps.values():
        weights: dict[str, float] = {}
        for term in planned.step.terms():
            weights.setdefault(term.step, term.weight)
        for above, weight in weights.items():
            words = "" if weight == 1.0 else f"{weight:g}".replace("-", "\N{MINUS SIGN}")
            yield graph.Arrow(above, planned.step.id, words)
    for check, outputs in report.plan.held.items():
        yield from (graph.Arrow(check, output, dotted=True) for output in outputs)


def _row(report: Report, planned: PlannedStep) -> list[Cell]:
    ran, cost = report.ran.get(planned.step.id), planned.cost
    terms = ", ".join(t.step if t.weight == 1.0 else f"{t.weight:g} {t.step}" for t in planned.step.terms())
    return [
        name(planned.step.id),
        planned.step.kind,
        name(terms),
        result_text(planned),
        step_words(report, planned),
        seconds(None if ran is None else ran.seconds),
        size(cost.read or None),
        size(cost.written or None),
        size(cost.peak or None),
    ]


def file_part(report: Report) -> Html:
    """Inputs and outputs with their sha256."""
    rows = [
        [
            name(path_text(file.path, report.folder)),
            "output" if file.output else "input",
            name(file.step),
            size(file.size),
            file.state,
            tag("code", file.sha256 or UNKNOWN),
        ]
        for file in report.files
    ]
    headings = ("file", "is", "step", "size", "state", "sha256")
    return section("files", "Files", table("Inputs and outputs", headings, rows))


def check_part(report: Report) -> Html | None:
    """What checks assert and what they measured."""
    if not report.checked:
        return None
    verdicts = {True: "holds", False: "does not hold", None: "not known yet"}
    rows: list[list[Cell]] = [
        [name(check.step), name("; ".join(check.asserted)), verdicts[check.holds]] for check in report.checked
    ]
    figures: list[list[Cell]] = [
        [name(check.step), what, value(number), name(of)]
        for check in report.checked
        for what, number, of in measured(check.figures)
    ]
    return section(
        "checks",
        "Checks",
        tag("ul", *(tag("li", name(error)) for error in report.errors)) if report.errors else None,
        table("Checks", ("check", "asserts", "verdict"), rows),
        table("What they measured", ("check", "figure", "value", "of"), figures) if figures else None,
    )


def measured(figures: object, path: str = "") -> Iterator[tuple[str, float, str]]:
    """Every number of a check's figures: what it is, the number, the module that it is of."""
    if isinstance(figures, dict):
        for key, told in figures.items():
            of = str(figures.get("of", ""))
            if key == "value" and isinstance(told, int | float):
                yield path, told, of
            elif isinstance(told, dict):
                yield from measured(told, f"{path} {key}".strip())
            elif isinstance(told, int | float) and not isinstance(told, bool):
                yield f"{path} {key}".strip(), told, ""


def lost_part(report: Report) -> Html | None:
    """The modules that found no place in a checkpoint."""
    if not report.lost:
        return None
    shown = report.lost[:_MOST_LOST]
    rows = [[name(one.module), name(one.lora), name(one.step), name(one.reason)] for one in shown]
    counted = f"{count(len(report.lost)).words} modules have no place in the checkpoint. "
    told = "Their weights are not in the merged checkpoint, and the others were merged without them."
    rest = "" if len(shown) == len(report.lost) else f" The first {len(shown)} are named; the JSON has all."
    body = table("Modules without a place", ("module", "LoRA", "merge", "why"), rows)
    return section("unmatched", "Unmatched modules", note(counted, told, rest), body)
