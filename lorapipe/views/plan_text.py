"""The plan on a terminal: the table, the modules if asked for, warnings, totals."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from lorapipe.plan.plan import Plan
from lorapipe.views.tables import module_table, plan_table, plan_totals, print_table
from lorapipe.views.text import visible
from lorapipe.weights.specs import AdapterSpec

__all__ = ["print_plan"]


def print_plan(plan: Plan, *, modules: bool = False, console: Console | None = None) -> None:
    """Print a plan; ``modules`` adds every LoRA's modules with where they bind."""
    console = console or Console(highlight=False)
    print_table(plan_table(plan), console)
    if modules:
        for planned in plan.steps.values():
            if isinstance(planned.spec, AdapterSpec):
                console.print(Text(f"\n{planned.step.id}", style="bold"))
                print_table(module_table(planned.spec.modules.items()), console)
    for warning in plan.warnings:
        console.print(Text(f"warning: {visible(warning)}", style="yellow"))
    console.print(Text(f"\n{plan_totals(plan)}"))
