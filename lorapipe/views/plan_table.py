"""A plan as a table for people: a row a step, and what a run would do in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.recipe.model import Term
from lorapipe.remote.url import Location, Url
from lorapipe.steps.kind import Materialise
from lorapipe.views.tables import STATUS_STYLES, counted, result_text
from lorapipe.views.text import bytes_text, path_text, visible
from lorapipe.views.variants import as_written, by_written, spanned, variants_lines
from lorapipe.weights.specs import AdapterSpec, FileSpec
from lorapipe.weights.verdicts import CheckSpec

if TYPE_CHECKING:
    from lorapipe.plan.files import InputFile

__all__ = ["plan_table", "plan_totals", "sentence"]

_ID, _VARIANT = 20, 44
"""Columns that ids take at most, of steps and of their variants."""


def plan_table(plan: Plan, folder: Path, *, each: bool = False) -> Table:
    """A row a step: what it does, what comes of it at what cost, what a run would do and why.

    The variants of a step are one row, with ``each`` a row each. Paths inside ``folder`` are relative
    to it; one that is absolute lies outside.
    """
    table = Table(box=None, pad_edge=False, show_header=False)
    groups = by_written(plan.steps.values())
    variant = any(of[0].step.axes for of in groups.values() if each or len(of) == 1)
    table.add_column(style="bold", overflow="fold", max_width=_VARIANT if variant else _ID)
    table.add_column(overflow="fold")
    for written, variants in groups.items():
        if len(variants) > 1 and not each:
            result = spanned(as_written(plan, planned) for planned in variants)
            table.add_row(Text(written), Text("\n").join(variants_lines(plan, variants, result, folder)))
            continue
        for planned in variants:
            lines = _step_lines(planned, folder, plan.held.get(planned.step.id, ()))
            table.add_row(Text(visible(planned.step.id)), Text("\n").join(lines))
    return table


def _step_lines(planned: PlannedStep, folder: Path, held: Sequence[str]) -> Iterator[Text]:
    path = planned.source.path if planned.source else planned.output
    yield Text(visible(sentence(planned, None if path is None else path_text(path, folder))))
    if planned.source is not None:
        yield Text(_source_text(planned.source, outside=_outside(planned.source.path, folder)))
    yield Text(", ".join([result_text(planned), *_sizes(planned)]))
    if held:
        yield Text(f"holds back {', '.join(held)}")
    # That an input is read when it is used needs no words.
    if planned.source is None or planned.status is not Status.RUN:
        quiet = planned.status is Status.RUN and planned.kind.materialise is Materialise.LAZY
        style = "dim" if quiet else STATUS_STYLES.get(planned.status, "")
        yield Text(visible(f"{planned.standing}: {planned.reason}"), style=style)


def sentence(planned: PlannedStep, path: str | None) -> str:
    """The step as a recipe reads: ``concat char, 0.7 style``; ``save both to out/x.safetensors``."""
    step = planned.step
    # What a check compares with is among what it asserts.
    terms = step.inputs[step.kind] if isinstance(planned.spec, CheckSpec) else step.terms()
    said = ", ".join(_term(term) for term in terms)
    if path is None:
        return f"{step.kind} {said}"
    return f"{step.kind} {said} to {path}" if said else f"{step.kind} {path}"


def _term(term: Term) -> str:
    return term.step if term.weight == 1.0 else f"{term.weight:g} {term.step}"


def _outside(path: Location, folder: Path) -> bool:
    """Whether a file of this machine is not the recipe's."""
    return not isinstance(path, Url) and not path.is_relative_to(folder)


def _source_text(source: InputFile, *, outside: bool) -> str:
    digest = "" if source.sha256 is None else f" {source.sha256[:12]}..."
    where = ", outside the recipe's folder" if outside else ""
    return f"sha256{digest} {source.certainty.value}{where}"


def _sizes(planned: PlannedStep) -> Iterator[str]:
    runs = planned.status in (Status.RUN, Status.UNDECIDED)
    most = "at most " if _bounded(planned) else ""
    if planned.source is not None:
        yield bytes_text(planned.source.size) + (" to read" if runs else "")
    elif isinstance(planned.spec, FileSpec):
        yield most + bytes_text(planned.spec.nbytes) + (" to write" if runs else "")
    elif runs and planned.cost.written:
        yield f"{most}{bytes_text(planned.cost.written)} to the store"
    elif planned.fetch is not None:
        yield f"{bytes_text(planned.fetch)} to fetch"
    if runs and planned.cost.peak:
        yield f"{bytes_text(planned.cost.peak)} of memory"


def _bounded(planned: PlannedStep) -> bool:
    """Whether sizes and ranks are upper bounds, since only the data tell them."""
    return isinstance(planned.spec, AdapterSpec | FileSpec) and planned.spec.bounded


def plan_totals(plan: Plan) -> str:
    """What a run would do in all: a line, and another if hashing would tell more."""
    pending = plan.pending
    if not plan.schedule:
        return _nothing(plan)
    active = [plan.steps[p.step] for p in plan.schedule]
    read = sum(step.cost.read for step in active)
    written = sum(step.cost.written for step in active)
    checks = f", {counted(len(plan.unchecked), 'check')} to make" if plan.unchecked else ""
    outputs = f"{counted(len(pending), 'output')} to write{checks} on {plan.device}"
    most = "at most " if any(_bounded(step) for step in active) else ""
    fetched = sum(step.fetch or 0 for step in active)
    fetch = f"{bytes_text(fetched)} to fetch, " if fetched else ""
    total = f"{outputs}: {bytes_text(read)} to read, {fetch}{most}{bytes_text(written)} to write"
    if any(step.status is Status.UNDECIDED for step in plan.steps.values()):
        total += "\nlorapipe plan --hash reads what is not hashed yet, and decides the rest"
    return total


def _nothing(plan: Plan) -> str:
    held = [step for step in plan.outputs if step.status is Status.HELD]
    if held:
        return f"nothing to do: {counted(len(held), 'output')} held back"
    return "nothing to do: every output is up to date"
