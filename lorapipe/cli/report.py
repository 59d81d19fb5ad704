"""``lorapipe report``: one page on a recipe, on a run of it, or on files of weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorapipe.cli.completing import recipes_and_weights
from lorapipe.cli.options import (
    Asked,
    lock_option,
    models_option,
    only_option,
    output_root_option,
    setting_option,
)

if TYPE_CHECKING:
    from lorapipe.build.events import Listener
    from lorapipe.build.looking.recording import Recording
    from lorapipe.build.looking.report import Report
    from lorapipe.build.planning import Options
    from lorapipe.build.result import Built
    from lorapipe.recipe.model import Recipe
    from lorapipe.remote.url import Location

__all__ = ["command", "reported", "writable"]

_RECIPES = (".yaml", ".yml")


@click.command("report")
@click.argument(
    "paths",
    metavar="RECIPE|FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
    shell_complete=recipes_and_weights,
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="The page to write.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON instead, every number of it.")
@setting_option
@only_option
@models_option
@output_root_option
@lock_option
@click.option("--family", help="The model family of files whose names leave it open.")
@click.option("--force", is_flag=True, help="Replace a file that is no report.")
def command(
    paths: tuple[Path, ...],
    output: Path,
    as_json: bool,
    settings: tuple[str, ...],
    only: tuple[str, ...],
    models: tuple[Path, ...],
    output_root: Location | None,
    lock: Path | None,
    family: str | None,
    force: bool,
) -> None:
    """Draw one page on RECIPE, or on FILEs of weights: norms, ranks, who fights whom, what a merge changes.

    The page is one file, needs no network, and can be passed on or printed. It names inputs, steps and
    files, also where a shuffle hides them in what is saved. 'lorapipe run --report' tells of the run too.
    """
    from rich.console import Console
    from rich.text import Text

    from lorapipe.build.looking.reporting import report_files, report_recipe
    from lorapipe.views.report.measuring import measuring_view
    from lorapipe.views.text import bytes_text, visible

    recipe = _recipe(paths)
    if not as_json:
        writable(output, force=force)
    console = Console(stderr=True, highlight=False)
    with measuring_view(console) as listen:
        if recipe is None:
            made = report_files(paths, family=family, listen=listen)
        else:
            asked = Asked(recipe, settings, only, models=models, output_root=output_root, lock=lock)
            made = report_recipe(asked.load(), asked.options(), listen=listen)
    if as_json:
        from lorapipe.views.report.as_json import report_json

        click.echo(json.dumps(report_json(made), indent=1, allow_nan=False))
        return
    _write(made, output)
    console.print(Text(visible(f"{output}: {bytes_text(output.stat().st_size)}")), soft_wrap=True)


def reported(recipe: Recipe, options: Options, output: Path, recording: Recording, listen: Listener) -> Built:
    """Build as ``run`` does, and write the report of it: also where checks fail, whose errors are raised.

    ``recording`` is of this run, and hears what ``listen`` is told.
    """
    from lorapipe.build.looking.reporting import report_recipe
    from lorapipe.build.run import build
    from lorapipe.errors import LorapipeError
    from lorapipe.plan.checks import is_of_checks

    try:
        built = build(recipe, options, listen=listen)
    except LorapipeError as error:
        if is_of_checks(error):
            recording.ended(error)
            _write(report_recipe(recipe, options, recording=recording), output)
        raise
    _write(report_recipe(recipe, options, recording=recording), output)
    return built


def writable(output: Path, *, force: bool) -> None:
    """Refuse, before any work, to replace what is no report.

    Raises :class:`~lorapipe.errors.BuildError` ``foreign-file``.
    """
    from lorapipe.errors import BuildError
    from lorapipe.views.report.page import GENERATOR

    if force or not output.exists():
        return
    with output.open("rb") as file:
        head = file.read(4096)
    if f'name="generator" content="{GENERATOR}"'.encode() not in head:
        hint = "give another name to -o, or --force to replace it"
        raise BuildError("foreign-file", f"'{output}' is there and is no report", hint=hint)


def _recipe(paths: tuple[Path, ...]) -> Path | None:
    """The recipe that is asked for; ``None`` for files of weights.

    Raises :class:`~lorapipe.errors.UsageError` ``several-recipes`` for more than one, or one among files.
    """
    from lorapipe.errors import UsageError

    recipes = [path for path in paths if path.suffix.lower() in _RECIPES]
    if recipes and len(paths) > 1:
        message = f"'{recipes[0]}' is a recipe, and a report is of one recipe, or of files of weights"
        raise UsageError("several-recipes", message, hint="name it alone")
    return recipes[0] if recipes else None


def _write(report: Report, output: Path) -> None:
    from lorapipe.store.atomic import atomic_write
    from lorapipe.views.report.page import report_html

    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output, label="report") as file:
        file.write(report_html(report).encode())
