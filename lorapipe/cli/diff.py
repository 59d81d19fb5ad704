"""``lorapipe diff``: what is otherwise in one file than in another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorapipe.cli.completing import recipes_and_weights
from lorapipe.cli.options import WeightsPath

if TYPE_CHECKING:
    from lorapipe.remote.url import Location

__all__ = ["command"]

_RECIPES = (".yaml", ".yml")


@click.command("diff")
@click.argument("old", type=WeightsPath(), shell_complete=recipes_and_weights)
@click.argument("new", type=WeightsPath(), shell_complete=recipes_and_weights)
@click.option("--family", help="The model family, where the names of LoRAs leave it open.")
@click.option("--modules", is_flag=True, help="List every module or weight that moved, the farthest first.")
@click.option(
    "--models",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    help="A folder to look for recipes' inputs in; may be repeated.",
)
@click.option("--hash", "read", is_flag=True, help="Hash recipes' inputs that are not known yet.")
@click.option("--check", is_flag=True, help="Exit with status 8 if anything is otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (schemas/diff.v1.schema.json).")
def command(
    old: Location,
    new: Location,
    family: str | None,
    modules: bool,
    models: tuple[Path, ...],
    read: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Compare two LoRAs, two checkpoints or two recipes: how NEW differs from OLD.

    Of weights the relative change ||A - B|| / ||A|| and the cosine of each block, and what was
    added or removed; of recipes the steps, options and outputs whose meaning is another. The
    status is 0 whatever is found, but with --check.
    """
    from rich.console import Console

    from lorapipe.errors import CheckFailed
    from lorapipe.views.diff import print_recipes_diff, print_weights_diff
    from lorapipe.views.diff_json import recipes_diff_json, weights_diff_json

    console = Console(highlight=False)
    if _both_recipes(old, new) and isinstance(old, Path) and isinstance(new, Path):
        from lorapipe.build.looking.recipe_diffing import diff_built
        from lorapipe.build.planning import Options
        from lorapipe.recipe.parsing import load_recipe

        recipes = diff_built(load_recipe(old), load_recipe(new), Options(models=models), read=read)
        differs = recipes.diff.differs
        if as_json:
            click.echo(json.dumps(recipes_diff_json(recipes), indent=2))
        else:
            print_recipes_diff(recipes, console)
    else:
        from lorapipe.build.looking.diffing import diff_weights

        with Console(stderr=True, highlight=False).status("comparing"):
            weights = diff_weights(old, new, family)
        differs = weights.differs
        if as_json:
            click.echo(json.dumps(weights_diff_json(weights, modules=modules), indent=2))
        else:
            print_weights_diff(weights, console, modules=modules)
    if check and differs:
        raise CheckFailed("differs", f"'{new.name}' differs from '{old.name}'")


def _both_recipes(old: Location, new: Location) -> bool:
    """Whether recipes are meant; raises :class:`~lorapipe.errors.UsageError` where only one is one."""
    from lorapipe.errors import UsageError

    recipes = [isinstance(path, Path) and path.suffix.lower() in _RECIPES for path in (old, new)]
    if recipes[0] != recipes[1]:
        recipe, other = (old, new) if recipes[0] else (new, old)
        raise UsageError(
            "other-kinds",
            f"'{recipe.name}' is a recipe, '{other.name}' is not",
            hint="compare what the recipe builds: lorapipe run, then diff its output",
        )
    return recipes[0]
