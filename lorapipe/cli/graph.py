"""``lorapipe graph``: the recipe's graph for mermaid or Graphviz."""

from __future__ import annotations

from pathlib import Path

import click

from lorapipe.cli.options import Asked, only_option, recipe_argument, setting_option

__all__ = ["command"]


@click.command("graph")
@recipe_argument
@setting_option
@only_option
@click.option("--format", "form", type=click.Choice(["mermaid", "dot"]), default="mermaid", show_default=True)
@click.option("--variants", is_flag=True, help="Draw each variant of a matrix by itself.")
def command(
    recipe: Path, settings: tuple[str, ...], only: tuple[str, ...], form: str, variants: bool
) -> None:
    """Print the graph of RECIPE's steps."""
    from lorapipe.recipe.selection import narrowed, parse_only
    from lorapipe.views.graph import FORMATS

    wanted = narrowed(Asked(recipe, settings).load(), parse_only(only))
    click.echo(FORMATS[form](wanted, each=variants), nl=False)
