"""``lorapipe import``: another program's command line or file as a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lorapipe.recipe.draft import Draft

__all__ = ["command"]

_output = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The recipe to write; standard output unless given.",
)


@click.group("import", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Write the recipe of what another program was told."""


@command.command("kohya", context_settings={"ignore_unknown_options": True})
@_output
@click.option(
    "--as-computed",
    is_flag=True,
    help="Write what the script computes where that is not what its options say.",
)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def kohya(output: Path | None, as_computed: bool, words: tuple[str, ...]) -> None:
    r"""Import a command of kohya's sd-scripts.

    \b
    lorapipe import kohya -o c.yaml -- python networks/merge_lora.py \
        --models a.safetensors b.safetensors --ratios 0.6 0.4 --concat --save_to c.safetensors

    Where the script's arithmetic is not what its options say (a ratio that acts squared, a
    concatenation that halves), the recipe does what they say, and tells so in a comment.
    """
    from lorapipe.drafts.kohya import kohya_recipe

    here = Path.cwd()
    folder = here if output is None else here / output.parent
    _write(kohya_recipe(words, folder.resolve(), here.resolve(), as_computed=as_computed), output)


@command.command("mergekit")
@_output
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("target", metavar="FOLDER")
def mergekit(output: Path | None, config: Path, target: str) -> None:
    """Import mergekit's CONFIG, whose models are one base with LoRAs; FOLDER is the model to be.

    lorapipe import mergekit -o merge.yaml config.yml merged/
    """
    from lorapipe.drafts.mergekit import mergekit_recipe

    folder = Path.cwd() if output is None else Path.cwd() / output.parent
    _write(mergekit_recipe(config, target, folder.resolve()), output)


def _write(draft: Draft, output: Path | None) -> None:
    from lorapipe.cli.recipes import refuse_existing, write_recipe
    from lorapipe.recipe.draft import render
    from lorapipe.recipe.parsing import parse

    text = render(draft)
    parse(text, "recipe.yaml" if output is None else str(output))
    if output is None:
        click.echo(text, nl=False)
        return
    refuse_existing(output)
    write_recipe(output, text)
