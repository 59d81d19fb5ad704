"""What the commands of one line share: their options, and a recipe written and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lorapipe.cli.completing import devices, dtypes, weights
from lorapipe.cli.options import together

if TYPE_CHECKING:
    from lorapipe.drafts.sheet import Sheet
    from lorapipe.recipe.model import JSON

__all__ = ["given", "output_options", "rank_options", "write_and_run"]

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "Written by lorapipe from one line"


def rank_options(*, required: bool) -> Callable[[F], F]:
    """``--rank`` and what goes with it."""
    return together(
        click.option(
            "--rank",
            type=click.IntRange(min=1),
            required=required,
            help="The most ranks of a module.",
        ),
        click.option("--conv-rank", type=click.IntRange(min=1), help="The same for convolutions."),
        click.option(
            "--dynamic",
            metavar="RULE=NUMBER",
            help="Ranks by singular values: sv-fro=0.9, sv-ratio=4, sv-cumulative=0.8.",
        ),
    )


output_options = together(
    click.option(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        shell_complete=weights,
        help="The file to write.",
    ),
    click.option(
        "--dtype",
        metavar="TYPE",
        shell_complete=dtypes,
        help="fp32, fp16 or bf16; that of the sources unless given.",
    ),
    click.option("--device", metavar="NAME", shell_complete=devices, help="auto, cpu, cuda or mps."),
    click.option("--memory", metavar="SIZE", help="The most that it may take, such as 1GiB."),
    click.option("--force", is_flag=True, help="Replace files that lorapipe did not write."),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
)
"""Where the result goes, how it is written, and how it is run."""


def given(**options: JSON) -> dict[str, JSON]:
    """The options that have a value, named as recipes name them."""
    return {name.replace("_", "-"): value for name, value in options.items() if value is not None}


def write_and_run(
    output: str, dtype: str | None, fill: Callable[[Sheet], str], running: Mapping[str, Any]
) -> None:
    """Write the recipe beside its output and run it: ``c.safetensors`` comes of ``c.yaml``.

    ``fill`` adds the steps and returns the one to save; ``running`` are options of ``run``.
    """
    from lorapipe.cli.run import command
    from lorapipe.drafts.sheet import Sheet
    from lorapipe.errors import UsageError
    from lorapipe.remote.url import is_url

    if is_url(output):
        hint = "name a file here; 'lorapipe run' with its recipe and --output-root makes it elsewhere, too"
        raise UsageError("output-elsewhere", f"the recipe is written beside '{output}'", hint=hint)
    target = Path(output)
    recipe = target.with_suffix(".yaml")
    sheet = Sheet(recipe.parent.resolve(), Path.cwd().resolve())
    sheet.tell(f"{_MARK}, and by the next one of this name anew.")
    step = fill(sheet)
    sheet.save(step, output, given(dtype=dtype))
    _write(recipe, sheet, force=bool(running["force"]))
    click.get_current_context().invoke(command, recipe=recipe, **running)


def _write(recipe: Path, sheet: Sheet, *, force: bool) -> None:
    """Write the recipe, but not over one that a person wrote."""
    from lorapipe.cli.recipes import write_recipe
    from lorapipe.errors import BuildError
    from lorapipe.recipe.draft import render
    from lorapipe.recipe.parsing import parse

    text = render(sheet.draft())
    parse(text, str(recipe))
    if recipe.exists() and not force and not recipe.read_bytes().startswith(f"# {_MARK}".encode()):
        raise BuildError(
            "foreign-file",
            f"'{recipe}' is there and was not written from one line",
            hint="give the output another name, or --force to replace it",
        )
    write_recipe(recipe, text)
