"""Plans and finished builds as tables for people."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorapipe.architectures import family
from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.recipe.model import Term
from lorapipe.remote.url import Location, Url
from lorapipe.steps.kind import Materialise
from lorapipe.views.bindings import BoundRow
from lorapipe.views.text import bytes_text, clock_text, path_text, visible
from lorapipe.views.variants import by_written, spanned, variants_lines
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, FileSpec, ModuleId, ModuleSpec, Spec
from lorapipe.weights.verdicts import CheckSpec

if TYPE_CHECKING:
    from lorapipe.build.result import Built, BuiltOutput
    from lorapipe.plan.files import InputFile

__all__ = [
    "STATUS_STYLES",
    "as_written",
    "binding_table",
    "built_table",
    "built_totals",
    "family_text",
    "headed_table",
    "hows_text",
    "module_table",
    "plan_table",
    "plan_totals",
    "print_table",
    "rank_text",
    "result_text",
    "sentence",
    "spec_text",
]

STATUS_STYLES = {
    Status.UP_TO_DATE: "green",
    Status.IN_STORE: "cyan",
    Status.UNUSED: "dim",
    Status.HELD: "yellow",
    Status.FAILS: "red",
}
"""How a status is drawn; one that is not here has nothing remarkable."""

_LOG_WIDTH = 100_000
"""Where nobody watches, no line is ever wrapped."""


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


def result_text(planned: PlannedStep) -> str:
    """What comes of a step, in a few words."""
    return spec_text(planned.spec)


def as_written(plan: Plan, planned: PlannedStep) -> str:
    """What comes of a step, with the ids that the recipe's text has for what it takes."""
    text = result_text(planned)
    for term in planned.step.terms():
        text = text.replace(term.step, plan.recipe.steps[term.step].written)
    return text


def spec_text(spec: Spec) -> str:
    """What a value is, in a few words: ``LoRA, SDXL, 722 modules, rank 8-32``."""
    if isinstance(spec, AdapterSpec):
        modules = _count(len(spec.modules), "module")
        return f"LoRA, {family_text(spec.family)}, {modules}, {rank_text(spec)}"
    if isinstance(spec, CheckSpec):
        return ", ".join(spec.asserted)
    tensors = _count(len(spec.tensors), "tensor")
    if isinstance(spec, CheckpointSpec):
        touched = f", {len(spec.touched)} of them changed" if spec.touched else ""
        return f"checkpoint, {family_text(spec.family)}, {tensors}{touched}"
    return f"{tensors} in {len(spec.files)} files" if len(spec.files) > 1 else tensors


def family_text(name: str | None) -> str:
    """A family's name for people."""
    return "unknown family" if name is None else family(name).title


def rank_text(spec: AdapterSpec) -> str:
    """``rank 32``, ``rank 4-64`` where modules differ, ``rank <= 64`` where the data decide.

    What does not add has no rank; with nothing that has one it is ``no rank``.
    """
    ranks = {module.rank for module in spec.modules.values() if module.rank}
    if not ranks:
        return "no rank"
    low, high = min(ranks), max(ranks)
    if spec.bounded:
        return f"rank <= {high}"
    return f"rank {high}" if low == high else f"rank {low}-{high}"


def plan_totals(plan: Plan) -> str:
    """What a run would do in all: a line, and another if hashing would tell more."""
    pending = plan.pending
    if not plan.schedule:
        return _nothing(plan)
    active = [plan.steps[p.step] for p in plan.schedule]
    read = sum(step.cost.read for step in active)
    written = sum(step.cost.written for step in active)
    checks = f", {_count(len(plan.unchecked), 'check')} to make" if plan.unchecked else ""
    outputs = f"{_count(len(pending), 'output')} to write{checks} on {plan.device}"
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
        return f"nothing to do: {_count(len(held), 'output')} held back"
    return "nothing to do: every output is up to date"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def module_table(modules: Iterable[tuple[ModuleId, ModuleSpec]]) -> Table:
    """A row a module: its name in the file, where it belongs, its shape and rank."""
    table = headed_table("module", "binds to", "shape", "rank")
    for module, spec in modules:
        shape = "x".join(str(n) for n in spec.shape)
        table.add_row(
            Text(visible(spec.spelling.stem)), Text(visible(str(module))), Text(shape), Text(str(spec.rank))
        )
    return table


def binding_table(rows: Iterable[BoundRow]) -> Table:
    """A row a module of a merge: which LoRA's it is, and the rows that it changes, or why none."""
    table = headed_table("lora", "module", "goes to")
    for row in rows:
        span = "" if row.rows is None else f"[{row.rows[0]}:{row.rows[1]}]"
        to = f"{row.key}{span}" if row.key is not None else f"nowhere: {row.reason}"
        style = "" if row.key is not None else "yellow"
        table.add_row(Text(row.lora), Text(visible(row.name)), Text(visible(to), style=style))
    return table


def built_table(built: Built, folder: Path) -> Table:
    """A row an output: where it is and what is in it, size, sha256, how it came and in what time.

    Those that depend on an axis of a matrix are rows of the sweep's tables, and not of this one.
    """
    table = headed_table("output", "size", "sha256", "")
    seconds = {done.step: done.seconds for done in built.steps}
    for output in (one for one in built.outputs if not built.plan.steps[one.step].step.axes):
        name = Text(visible(path_text(output.path, folder)))
        content = Text(f"\n  {_content(built, output)}", style="dim")
        how = Text("up to date", style="green")
        if output.written:
            how = Text(f"written in {seconds[output.step]:.1f} s" if output.step in seconds else "written")
        table.add_row(name + content, Text(bytes_text(output.size)), Text(output.sha256[:12]), how)
    return table


def built_totals(built: Built) -> str:
    """What was done in all: ``2 built, 1 from the store, 1 written, 6.94 GB in 42.3 s on cpu``.

    It is ``""`` where there was nothing to do. What costs nothing until it is used (a load, a
    concat) is not counted.
    """
    steps = built.plan.steps
    hows = [d.how for d in built.steps if steps[d.step].kind.materialise is not Materialise.LAZY]
    if not hows:
        return ""
    size = sum(output.size for output in built.outputs if output.written)
    said = f"{hows_text(hows)}, {bytes_text(size)}" if size else hows_text(hows)
    return f"{said} in {_seconds_text(built.seconds)} on {built.plan.device}"


def hows_text(hows: Iterable[str]) -> str:
    """How several steps came, counted: ``20 built, 4 from the store``."""
    return ", ".join(
        f"{count} {_HOWS.get(how, how) if count == 1 else _SEVERAL.get(how, _HOWS.get(how, how))}"
        for how, count in Counter(hows).items()
    )


_HOWS = {"store": "from the store", "fetched": "from the shared store", "found": "made by another process"}
_SEVERAL = {"holds": "hold", "does not hold": "do not hold"}


def _seconds_text(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else clock_text(seconds)


def _content(built: Built, output: BuiltOutput) -> str:
    step = built.plan.steps[output.step]
    return result_text(built.plan.steps[step.step.inputs["save"][0].step])


def headed_table(*headings: str) -> Table:
    """A table without lines; ranks and sizes stand to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in ("rank", "size") else "left")
    return table


def print_table(table: Table, console: Console) -> None:
    """Print a table: wrapped to a terminal's width, unwrapped where nobody watches."""
    if console.is_terminal:
        console.print(table)
        return
    wide = Console(file=io.StringIO(), width=_LOG_WIDTH, highlight=False, color_system=None)
    with wide.capture() as drawn:
        wide.print(table)
    for line in drawn.get().splitlines():
        console.print(Text(line.rstrip()), soft_wrap=True)
