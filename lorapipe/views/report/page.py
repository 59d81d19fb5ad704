"""A report as one page of HTML: no network, no other file, no name of anybody's that could run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence

from lorapipe.build.looking.report import Report, ReportFile
from lorapipe.plan.plan import Status
from lorapipe.version import __version__
from lorapipe.views.report.building import build_part, check_part, file_part, lost_part
from lorapipe.views.report.elements import Cell, facts, section
from lorapipe.views.report.markup import Html, cut, joined, name, tag
from lorapipe.views.report.meetings import meeting_part
from lorapipe.views.report.merges import merge_part, resize_part
from lorapipe.views.report.numerals import count, seconds, size
from lorapipe.views.report.portraits import portrait_part
from lorapipe.views.report.script import SCRIPT
from lorapipe.views.report.style import STYLE
from lorapipe.views.report.sweeps import sweep_part
from lorapipe.views.variants import alike

__all__ = ["GENERATOR", "report_html"]

GENERATOR = "lorapipe report"
"""What the page says of itself in its head."""

_ROWS = 2400
"""Rows that the tables of all modules have together: some 700 kB."""


def report_html(report: Report) -> str:
    """The page. Its own style and script alone are let in, by their hashes."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy()),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content=GENERATOR),
        tag("title", f"{cut(report.title)} - lorapipe report"),
        tag("style", Html(STYLE)),
    )
    parts = [(ident, title, part) for ident, title, part in _parts(report) if part is not None]
    links = tag("nav", tag("ul", *(_link(i, t) for i, t, _ in parts)), aria_label="Contents")
    body = tag(
        "body",
        tag(
            "header",
            tag("h1", name(report.title)),
            tag("p", _lead(report), class_="lead"),
            facts(_facts(report)),
            links,
        ),
        tag("main", *(part for _, _, part in parts)),
        tag("footer", tag("p", f"lorapipe {__version__}. Numbers are exact in the JSON of the same report.")),
        tag("script", Html(SCRIPT)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _parts(report: Report) -> Iterator[tuple[str, str, Html | None]]:
    yield "sweep", "Sweep", sweep_part(report.sweep)
    if report.recipe is not None:
        yield "build", "The build", build_part(report)
    yield "files", "Files", file_part(report)
    yield "checks", "Checks", check_part(report)
    yield "unmatched", "Unmatched modules", lost_part(report)
    yield "notes", "Notes", _notes(report)
    yield "merged", "Merged", merge_part(report.merged)
    yield "resized", "Energy kept", resize_part([r for r in report.resized if r.step not in report.many])
    yield "pairs", "LoRAs together", meeting_part(report.meetings)
    most = _ROWS // max(1, len(report.portraits))
    for number, portrait in enumerate(report.portraits, start=1):
        yield f"lora-{number}", portrait.path.name, portrait_part(portrait, number, most)


def _link(ident: str, title: str) -> Html:
    return tag("li", tag("a", tag("bdi", cut(title, 48)), href=f"#{ident}"))


def _lead(report: Report) -> Html:
    if report.recipe is None:
        return Html("What these files hold, and how they stand to each other.")
    description = report.plan.recipe.description
    run = "a run of" if report.ran else "the state of"
    said = joined([f"Report of {run} ", name(report.recipe.name), f" on {report.plan.device}."])
    return said if description is None else joined([said, " ", tag("bdi", cut(description, 600))])


def _facts(report: Report) -> Iterator[tuple[str, Cell]]:
    outputs = [file for file in report.files if file.output]
    inputs = [file for file in report.files if not file.output]
    yield "inputs", _counted(inputs)
    if report.recipe is not None:
        yield "outputs", _counted(outputs)
        yield "steps", count(len(report.plan.steps))
        if report.ran:
            yield "time", seconds(sum(ran.seconds for ran in report.ran.values()))
        else:
            yield "outputs due", count(sum(p.status is not Status.UP_TO_DATE for p in report.plan.outputs))
        profile = report.plan.profile
        yield "numbers", f"{profile.compute}, torch {profile.torch}"
    if report.portraits:
        yield "LoRAs", count(len(report.portraits))


def _counted(files: Sequence[ReportFile]) -> str:
    """How many, and how large those are that are there; by no comma, which would read as one of thousands."""
    sizes = [file.size for file in files if file.size is not None]
    return f"{len(files)} · {size(sum(sizes)).words}" if sizes else str(len(files))


def _notes(report: Report) -> Html | None:
    """What the plan warns of, and what could not be told."""
    said = [*alike(report.plan, report.plan.warnings), *report.untold]
    return section("notes", "Notes", tag("ul", *(tag("li", name(text)) for text in said))) if said else None


def _policy() -> str:
    allowed = f"style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
