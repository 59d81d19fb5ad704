"""``lorapipe validate``: check recipes, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from lorapipe.cli.options import recipes_argument, setting_option, settings_given
from lorapipe.errors import LorapipeError, ManyErrors
from lorapipe.recipe.compose import MAX_BYTES
from lorapipe.recipe.model import Recipe
from lorapipe.recipe.params import Given
from lorapipe.recipe.parsing import decode, load_recipe, parse

__all__ = ["command"]


@click.command("validate")
@recipes_argument
@setting_option
def command(recipes: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Check each RECIPE whole: every error at once, with its place.

    Only the recipe is read; no input need exist. '-' reads a recipe from stdin.
    """
    params = settings_given(settings)
    errors = [error for file in recipes for error in _validate(file, params)]
    if errors:
        raise ManyErrors(errors)


def _validate(file: str, params: Mapping[str, Given]) -> tuple[LorapipeError, ...]:
    """Say that a recipe is right, or return what is wrong with it."""
    try:
        recipe = _from_stdin(params) if file == "-" else load_recipe(file, params)
    except LorapipeError as error:
        return error.parts
    count = len({step.written for step in recipe.steps.values()})
    variants = f" in {len(recipe.variants)} variants" if recipe.matrix else ""
    click.echo(f"{recipe.file}: ok ({count} step{'' if count == 1 else 's'}{variants})")
    return ()


def _from_stdin(params: Mapping[str, Given]) -> Recipe:
    return parse(decode(sys.stdin.buffer.read(MAX_BYTES + 1), "<stdin>"), "<stdin>", params)
