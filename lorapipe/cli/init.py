"""``lorapipe init``: a recipe to begin with, from the files that are there."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorapipe.cli.completing import dtypes, recipes, weights

if TYPE_CHECKING:
    from lorapipe.drafts.finding import Found
    from lorapipe.drafts.jobs import Chosen, Order

__all__ = ["command"]

_JOBS = ("concat", "svd", "merge", "extract", "sweep")


@click.command("init")
@click.argument("job", required=False, type=click.Choice(_JOBS))
@click.argument("files", nargs=-1, metavar="[FILE[=WEIGHT]]...", shell_complete=weights)
@click.option("--base", metavar="FILE", shell_complete=weights, help="The checkpoint of merge and extract.")
@click.option("--rank", type=click.IntRange(min=1), help="The rank of svd and extract; 16 unless given.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    shell_complete=recipes,
    help="The recipe to write; recipe.yaml unless given.",
)
@click.option("--to", metavar="FILE", shell_complete=weights, help="The file that the recipe makes.")
@click.option("--dtype", metavar="TYPE", shell_complete=dtypes, help="The type of that file's numbers.")
@click.option("--force", is_flag=True, help="Replace a recipe that is there.")
def command(
    job: str | None,
    files: tuple[str, ...],
    base: str | None,
    rank: int | None,
    output: Path | None,
    to: str | None,
    dtype: str | None,
    force: bool,
) -> None:
    """Write a recipe for a job: concat, svd, merge, extract or sweep.

    lorapipe init concat a.safetensors b.safetensors=0.7 -o my.yaml --to out/c.safetensors

    Without FILEs it takes those in this folder, by their headers. In a terminal it asks for what
    is not said.
    """
    from lorapipe.drafts.finding import look_at
    from lorapipe.drafts.jobs import JOBS, choose
    from lorapipe.drafts.oneliners import parse_term
    from lorapipe.errors import UsageError

    here = Path.cwd()
    asks = _interactive() and not (job and files)
    if job is None and not asks:
        raise UsageError("which-job", "which job?", hint=f"one of {', '.join(_JOBS)}")
    name = job or _ask_job()
    given = [parse_term(text) for text in files]
    chosen = [(look_at(path, here), weight) for path, weight in given]
    of = None if base is None else look_at(base, here)
    if not files:
        found = _search(here, here / "out" if to is None else (here / to).parent)
        found = [one for one in found if base is None or one.given != base]
        chosen, of = _pick(name, found, of, asks=asks)
    order = choose(name, chosen, of, rank)
    if asks and rank is None and JOBS[name].ranked:
        order = choose(name, chosen, of, click.prompt("Rank", default=order.rank, type=click.IntRange(min=1)))
    recipe, target = _places(name, output, to, asks=asks)
    _refuse(recipe, force=force, asks=asks)
    _write(name, order, recipe, target, dtype)


def _interactive() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _ask_job() -> str:
    from lorapipe.cli.asking import ask_job
    from lorapipe.drafts.jobs import JOBS

    return ask_job({name: job.title for name, job in JOBS.items()})


def _search(here: Path, results: Path) -> list[Found]:
    """The files of this folder; what cannot be read is said, and passed over."""
    from lorapipe.drafts.finding import find_weights
    from lorapipe.views.diagnostics import diagnostic

    found, troubles = find_weights(here, results)
    for trouble in troubles:
        click.echo(diagnostic(trouble, colour=False).replace("error:", "passed over:", 1), err=True)
    return found


def _pick(
    name: str, found: list[Found], base: Found | None, *, asks: bool
) -> tuple[list[Chosen], Found | None]:
    """Files for a job of those found: all of the sort that it takes, or those that a person names."""
    from lorapipe.drafts.jobs import JOBS

    job = JOBS[name]
    loras = [one for one in found if one.lora] if job.loras else []
    models = [one for one in found if not one.lora] if job.checkpoints else []
    if not asks:
        wanted = [*loras, *(models if base is None or job.checkpoints > 1 else [])]
        return [(one, 1.0) for one in wanted], base
    from lorapipe.cli.asking import ask_file, ask_files

    chosen = ask_files(loras, "LoRAs") if loras else []
    if job.checkpoints > 1 and models:
        chosen.append((ask_file(models, "Which is the tuned checkpoint?"), 1.0))
    if job.checkpoints and base is None and models:
        base = ask_file(models, "Which is the checkpoint to start from?")
    return chosen, base


def _places(name: str, output: Path | None, to: str | None, *, asks: bool) -> tuple[Path, str]:
    """The recipe to write, and the file that it is to make."""
    from lorapipe.cli.asking import ask_path

    recipe = output or Path("recipe.yaml")
    if asks and output is None:
        recipe = ask_path("The recipe to write", recipe)
    stem = name if recipe.stem == "recipe" else recipe.stem
    target = recipe.parent / "out" / f"{stem}.safetensors"
    if asks and to is None:
        target = ask_path("The file that it makes", target)
    return recipe, to or target.as_posix()


def _refuse(recipe: Path, *, force: bool, asks: bool) -> None:
    from lorapipe.cli.recipes import refuse_existing

    if asks and recipe.exists() and not force:
        force = click.confirm(f"'{recipe}' is there; replace it?")
    if not force:
        refuse_existing(recipe, "give another name to -o, or --force")


def _write(name: str, order: Order, recipe: Path, target: str, dtype: str | None) -> None:
    """Write the recipe in its form, once it is found to be right."""
    from lorapipe.cli.oneliners import given
    from lorapipe.cli.recipes import write_recipe
    from lorapipe.drafts.jobs import fill
    from lorapipe.drafts.sheet import Sheet
    from lorapipe.recipe.draft import render
    from lorapipe.recipe.formatting import format_text
    from lorapipe.recipe.parsing import parse

    files = [*(one for one, _ in order.loras), *filter(None, (order.base, order.tuned))]
    about = {one.given: one.said for one in files}
    here = Path.cwd().resolve()
    sheet = Sheet((here / recipe).parent.resolve(), here, about)
    fill(name, order, sheet, target, given(dtype=dtype))
    text = format_text(render(sheet.draft(recipe.stem)), str(recipe))
    parse(text, str(recipe))
    write_recipe(recipe, text)
    shown = shlex.quote(str(recipe))
    click.echo(
        f"wrote {recipe} - 'lorapipe plan {shown}' shows what it makes, 'lorapipe run {shown}' makes it"
    )
