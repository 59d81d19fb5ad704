"""The part of the page that tells of the build: its graph, steps, files, checks, what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from graphlib import TopologicalSorter

from lorapipe.build.looking.report import Report
from lorapipe.plan.plan import PlannedStep, Status
from lorapipe.steps.kind import Materialise
from lorapipe.views.report import graph
from lorapipe.views.report.elements import Cell, folded, note, picture, section, table
from lorapipe.views.report.markup import Html, name, tag
from lorapipe.views.report.numerals import UNKNOWN, count, seconds, size, value
from lorapipe.views.tables import result_text
from lorapipe.views.text import bytes_text, path_text
from lorapipe.views.variants import as_written, spanned, variants_terms

__all__ = ["build_part", "check_part", "file_part", "lost_part", "step_state", "step_words"]

_MOST_ERRORS = 12

_MOST_FILES = 40
"""Files that are listed where a reader has not asked for the list."""

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
    """The graph, and its steps as a table; of many variants of a step both have one box and one row."""
    groups = _groups(report)
    boxes = [_box(report, of[0]) if len(of) == 1 else _boxes(report, of) for of in groups.values()]
    told = (
        "From what is read, above, to what is written, below. A number on an arrow is a weight other than "
        "1; a dotted arrow leads from a check to what it holds back."
    )
    keys = (tag("span", tag("i", class_=f"key {state}"), words) for state, words in _LEGEND)
    drawn = picture("graph", "The graph of the build", told, graph.drawing(boxes, list(_arrows(report))))
    rows = [_row(report, of[0]) if len(of) == 1 else _rows(report, of) for of in groups.values()]
    headings = ("step", "kind", "of", "result", "state", "time", "read", "written", "memory")
    return section(
        "build", "The build", tag("p", *keys, class_="keys"), drawn, table("Steps", headings, rows)
    )


def _groups(report: Report) -> dict[str, list[PlannedStep]]:
    """The steps as they are shown, each after what it takes: by itself, but many variants together."""
    found: dict[str, list[PlannedStep]] = {}
    for planned in report.plan.steps.values():
        found.setdefault(_shown_as(report, planned.step.id), []).append(planned)
    if not report.many:
        return found
    above = {
        shown: {_shown_as(report, term.step) for planned in of for term in planned.step.terms()}
        for shown, of in found.items()
    }
    return {shown: found[shown] for shown in TopologicalSorter(above).static_order()}


def _shown_as(report: Report, step: str) -> str:
    return report.plan.steps[step].step.written if step in report.many else step


def _boxes(report: Report, variants: Sequence[PlannedStep]) -> graph.Box:
    """One box for many variants, in the state of the one of which a reader should know first."""
    step, states = variants[0].step, {step_state(report, planned) for planned in variants}
    state = next(state for state in _FIRST if state in states)
    lines = (f"{len(variants)} variants", _counted(report, variants))
    told = f"{step.written}: {step.kind}. {_spanned(report, variants)}. {', '.join(lines)}"
    return graph.Box(step.written, step.kind, lines, state, told)


_FIRST = ("stopped", "due", "built", "cached", "idle")


def _counted(report: Report, variants: Sequence[PlannedStep]) -> str:
    """How the variants stand: ``20 built, 4 from the store``."""
    found = Counter(step_words(report, planned) for planned in variants)
    return ", ".join(words if len(found) == 1 else f"{count} {words}" for words, count in found.items())


def _spanned(report: Report, variants: Sequence[PlannedStep]) -> str:
    return spanned(as_written(report.plan, planned) for planned in variants)


def _rows(report: Report, variants: Sequence[PlannedStep]) -> list[Cell]:
    """One row for many variants: sums, and the memory of the one that takes most."""
    ran = [report.ran[planned.step.id].seconds for planned in variants if planned.step.id in report.ran]
    costs = [planned.cost for planned in variants]
    return [
        name(variants[0].step.written),
        variants[0].step.kind,
        name(", ".join(variants_terms(report.plan, variants))),
        _spanned(report, variants),
        f"{len(variants)} variants: {_counted(report, variants)}",
        seconds(sum(ran) if ran else None),
        size(sum(cost.read for cost in costs) or None),
        size(sum(cost.written for cost in costs) or None),
        size(max(cost.peak for cost in costs) or None),
    ]


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
    """What each box takes; a weight is told where it is the same in all variants."""
    weights: dict[tuple[str, str], set[float]] = {}
    for planned in report.plan.steps.values():
        own: dict[str, float] = {}
        for term in planned.step.terms():
            own.setdefault(term.step, term.weight)
        for above, weight in own.items():
            ends = (_shown_as(report, above), _shown_as(report, planned.step.id))
            weights.setdefault(ends, set()).add(weight)
    for (above, below), found in weights.items():
        weight = found.pop() if len(found) == 1 else 1.0
        words = "" if weight == 1.0 else f"{weight:g}".replace("-", "\N{MINUS SIGN}")
        yield graph.Arrow(above, below, words)
    held = {
        (_shown_as(report, check), _shown_as(report, output))
        for check, outputs in report.plan.held.items()
        for output in outputs
    }
    yield from (graph.Arrow(check, output, dotted=True) for check, output in sorted(held))


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
    made = table("Inputs and outputs", headings, rows)
    return section("files", "Files", made if len(rows) <= _MOST_FILES else folded(f"{len(rows)} files", made))


def check_part(report: Report) -> Html | None:
    """What checks assert and what they measured; of many variants of one the sweep's table tells."""
    checked = [check for check in report.checked if check.step not in report.many]
    if not checked and not report.errors:
        return None
    verdicts = {True: "holds", False: "does not hold", None: "not known yet"}
    rows: list[list[Cell]] = [
        [name(check.step), name("; ".join(check.asserted)), verdicts[check.holds]] for check in checked
    ]
    figures: list[list[Cell]] = [
        [name(check.step), what, value(number), name(of)]
        for check in checked
        for what, number, of in measured(check.figures)
    ]
    return section(
        "checks",
        "Checks",
        tag("ul", *_errors(report)) if report.errors else None,
        table("Checks", ("check", "asserts", "verdict"), rows) if rows else None,
        table("What they measured", ("check", "figure", "value", "of"), figures) if figures else None,
    )


def _errors(report: Report) -> Iterator[Html]:
    """What did not hold; of many no more than a reader takes in."""
    yield from (tag("li", name(error)) for error in report.errors[:_MOST_ERRORS])
    if rest := len(report.errors) - _MOST_ERRORS:
        yield tag("li", f"and {rest} more") if rest > 0 else Html("")


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
