"""``lorapipe fmt``: recipes in one form."""

from __future__ import annotations

import sys
from difflib import unified_diff
from pathlib import Path

import click

from lorapipe.cli.options import recipes_argument
from lorapipe.cli.recipes import write_recipe
from lorapipe.errors import LorapipeError, WorkPending, gathered
from lorapipe.recipe.compose import MAX_BYTES
from lorapipe.recipe.formatting import format_text
from lorapipe.recipe.parsing import decode, read_bytes

__all__ = ["command"]


@click.command("fmt")
@recipes_argument
@click.option("--check", is_flag=True, help="Write nothing; exit with status 7 if something is to be done.")
@click.option("--diff", is_flag=True, help="Write nothing; show what would change.")
def command(recipes: tuple[str, ...], check: bool, diff: bool) -> None:
    """Bring each RECIPE into one form: the same recipe, with its comments.

    A step's kind first and its options in order, braces in one column, quotes where they are due,
    lines of up to 100 columns. '-' formats standard input to standard output.
    """
    errors = [error for file in recipes for error in _wrong(file, check=check, diff=diff)]
    if errors:
        raise gathered(errors)


def _wrong(file: str, *, check: bool, diff: bool) -> tuple[LorapipeError, ...]:
    """Format a recipe, or return why not."""
    try:
        _format(file, check=check, diff=diff)
    except LorapipeError as error:
        return error.parts
    return ()


def _format(file: str, *, check: bool, diff: bool) -> None:
    name = "<stdin>" if file == "-" else file
    data = sys.stdin.buffer.read(MAX_BYTES + 1) if file == "-" else read_bytes(file)
    text = decode(data, name)
    formatted = format_text(text, name)
    changed = formatted.encode() != data
    if diff:
        _show(name, text, formatted)
    elif file == "-" and not check:
        sys.stdout.buffer.write(formatted.encode())
    elif changed and not check:
        write_recipe(Path(file), formatted)
    if file != "-" and not (check or diff):
        click.echo(f"{file}: {'formatted' if changed else 'unchanged'}")
    if check and changed:
        hint = "lorapipe fmt writes it, --diff shows what changes"
        raise WorkPending("not-formatted", "is not in the form of lorapipe fmt", hint=hint, where=name)


def _show(name: str, text: str, formatted: str) -> None:
    from lorapipe.views.text import visible

    lines = unified_diff(text.split("\n"), formatted.split("\n"), name, f"{name} (formatted)", lineterm="")
    for line in lines:
        click.echo(visible(line))
