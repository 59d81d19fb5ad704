"""``lorapipe graph``: the recipe's graph for mermaid or Graphviz."""

from __future__ import annotations

from pathlib import Path

import click

from lorapipe.cli.options import Asked, recipe_argument, setting_option

__all__ = ["command"]


@click.command("graph")
@recipe_argument
@setting_option
@click.option("--format", "form", type=click.Choice(["mermaid", "dot"]), default="mermaid", show_default=True)
def command(recipe: Path, settings: tuple[str, ...], form: str) -> None:
    """Print the graph of RECIPE's steps."""
    from lorapipe.views.graph import FORMATS

    click.echo(FORMATS[form](Asked(recipe, settings).load()), nl=False)
