"""Plans and finished builds as tables for people."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.views.text import bytes_text, visible
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleId, ModuleSpec

if TYPE_CHECKING:
    from lorapipe.build.result import Built, BuiltOutput

__all__ = ["built_table", "module_table", "plan_table", "plan_totals"]

_STYLES = {Status.UP_TO_DATE: "green", Status.IN_STORE: "cyan", Status.UNUSED: "dim"}


def plan_table(plan: Plan) -> Table:
    """A row a step: what it is, what comes of it, what a run would do and why."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("step", "kind", "result", "reads", "writes", "peak"):
        table.add_column(heading, justify="right" if heading in ("reads", "writes", "peak") else "left")
    table.add_column("status", overflow="fold")
    for planned in plan.steps.values():
        runs = planned.status in (Status.RUN, Status.UNDECIDED)
        cost = planned.cost
        table.add_row(
            Text(planned.step.id),
            Text(planned.step.kind),
            Text(result_text(planned)),
            bytes_text(cost.read) if runs and cost.read else "",
            bytes_text(cost.written) if runs and cost.written else "",
            bytes_text(cost.peak) if runs and cost.peak else "",
            Text(f"{planned.status.value}: {planned.reason}", style=_STYLES.get(planned.status, "")),
        )
    return table


def result_text(planned: PlannedStep) -> str:
    """What comes of a step, in a few words: ``LoRA, SDXL, 722 modules, rank 8-32``."""
    spec = planned.spec
    if isinstance(spec, AdapterSpec):
        return f"LoRA, {spec.family or 'unknown family'}, {len(spec.modules)} modules, {rank_text(spec)}"
    if isinstance(spec, CheckpointSpec):
        touched = f", {len(spec.touched)} changed" if spec.touched else ""
        return f"checkpoint, {spec.family or 'unknown family'}, {len(spec.tensors)} tensors{touched}"
    return f"file, {len(spec.tensors)} tensors, {bytes_text(spec.nbytes)}"


def rank_text(spec: AdapterSpec) -> str:
    """``rank 32``, or ``rank 4-64`` where modules differ."""
    ranks = {module.rank for module in spec.modules.values()}
    low, high = min(ranks), max(ranks)
    return f"rank {high}" if low == high else f"rank {low}-{high}"


def plan_totals(plan: Plan) -> str:
    """One line below the table: what a run would do in all."""
    pending = plan.pending
    if not pending:
        return "nothing to do: every output is up to date"
    active = [plan.steps[p.step] for p in plan.schedule]
    read = sum(step.cost.read for step in active)
    written = sum(step.cost.written for step in active)
    plural = "output" if len(pending) == 1 else "outputs"
    return (
        f"{len(pending)} {plural} to write on {plan.device}: "
        f"{bytes_text(read)} to read, {bytes_text(written)} to write"
    )


def module_table(modules: Iterable[tuple[ModuleId, ModuleSpec]]) -> Table:
    """A row a module: its name in the file, where it belongs, its shape and rank."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("module", "binds to", "shape", "rank"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "rank" else "left")
    for module, spec in modules:
        table.add_row(
            Text(visible(spec.spelling.stem)),
            Text(visible(str(module))),
            "x".join(str(n) for n in spec.shape),
            str(spec.rank),
        )
    return table


def built_table(built: Built, folder: Path) -> Table:
    """A row an output: where it is, what is in it, its sha256, and how it came."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("output", "content", "size", "sha256", ""):
        table.add_column(heading, overflow="fold", justify="right" if heading == "size" else "left")
    for output in built.outputs:
        how = "written" if output.written else "up to date"
        table.add_row(
            Text(visible(Path(os.path.relpath(output.path, folder)).as_posix())),
            Text(_content(built, output)),
            bytes_text(output.size),
            output.sha256[:16],
            Text(how, style="" if output.written else "green"),
        )
    return table


def _content(built: Built, output: BuiltOutput) -> str:
    step = built.plan.steps[output.step]
    return result_text(built.plan.steps[step.step.inputs["save"][0].step])


def print_table(table: Table, stream: Console) -> None:
    """Print without wrapping where nobody watches: a log has no width."""
    if not stream.is_terminal:
        stream.width = 250
    stream.print(table)
