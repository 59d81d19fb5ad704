"""What a recovered recipe leaves open, line by line."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from lorapipe.build.proving.recovery import Recovery
from lorapipe.views.text import visible

__all__ = ["print_recovery"]


def print_recovery(found: Recovery, console: Console) -> None:
    """Print what may keep the recipe from making the same bytes, and the inputs that were not found."""
    warnings = [
        *found.recipe.warnings,
        *(f"not found: {source.name}, sha256 {source.sha256}" for source in found.missing),
    ]
    for warning in warnings:
        console.print(Text(f"warning: {visible(warning)}", style="yellow"), soft_wrap=not console.is_terminal)
