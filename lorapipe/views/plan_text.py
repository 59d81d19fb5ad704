"""The plan on a terminal: the steps, their modules if asked for, warnings, totals."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from lorapipe.plan.plan import Plan
from lorapipe.views.bindings import bound_rows, is_merge
from lorapipe.views.plan_table import plan_table, plan_totals
from lorapipe.views.tables import binding_table, module_table, print_table
from lorapipe.views.text import visible
from lorapipe.views.variants import alike
from lorapipe.weights.specs import AdapterSpec

__all__ = ["print_plan", "print_warnings"]


def print_plan(
    plan: Plan, folder: Path, *, modules: bool = False, each: bool = False, console: Console | None = None
) -> None:
    """Print a plan; ``modules`` adds every LoRA's modules, and where each merge puts them.

    With ``each`` every variant of a step is shown by itself. Paths are shown as seen from ``folder``.
    """
    console = console or Console(highlight=False)
    print_table(plan_table(plan, folder, each=each), console)
    if modules:
        _print_modules(plan, console)
    console.print()
    print_warnings(plan, console)
    console.print(Text(plan_totals(plan)), soft_wrap=not console.is_terminal)


def _print_modules(plan: Plan, console: Console) -> None:
    for planned in plan.steps.values():
        if isinstance(planned.spec, AdapterSpec):
            table = module_table(planned.spec.modules.items())
        elif is_merge(planned):
            table = binding_table(bound_rows(plan, planned))
        else:
            continue
        console.print(Text(f"\n{planned.step.id}", style="bold"), soft_wrap=True)
        print_table(table, console)


def print_warnings(plan: Plan, console: Console) -> None:
    """Print what is not wrong, and yet should be known, line by line."""
    for warning in alike(plan, plan.warnings):
        lines = "\n".join(visible(line) for line in warning.splitlines())
        console.print(Text(f"warning: {lines}", style="yellow"), soft_wrap=not console.is_terminal)
