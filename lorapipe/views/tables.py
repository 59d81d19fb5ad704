"""What is built and what values are, as tables and in a few words, for people."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorapipe.architectures import family
from lorapipe.plan.plan import PlannedStep, Status
from lorapipe.steps.kind import Materialise
from lorapipe.views.bindings import BoundRow
from lorapipe.views.text import bytes_text, clock_text, path_text, visible
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleId, ModuleSpec, Spec
from lorapipe.weights.verdicts import CheckSpec

if TYPE_CHECKING:
    from lorapipe.build.result import Built, BuiltOutput

__all__ = [
    "STATUS_STYLES",
    "binding_table",
    "built_table",
    "built_totals",
    "counted",
    "family_text",
    "headed_table",
    "hows_text",
    "module_table",
    "print_table",
    "rank_text",
    "result_text",
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


def result_text(planned: PlannedStep) -> str:
    """What comes of a step, in a few words."""
    return spec_text(planned.spec)


def spec_text(spec: Spec) -> str:
    """What a value is, in a few words: ``LoRA, SDXL, 722 modules, rank 8-32``."""
    if isinstance(spec, AdapterSpec):
        modules = counted(len(spec.modules), "module")
        return f"LoRA, {family_text(spec.family)}, {modules}, {rank_text(spec)}"
    if isinstance(spec, CheckSpec):
        return ", ".join(spec.asserted)
    tensors = counted(len(spec.tensors), "tensor")
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


def counted(number: int, thing: str) -> str:
    """``1 module``, ``2 modules``."""
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
