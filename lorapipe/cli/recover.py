"""``lorapipe recover``: the recipe that built a file."""

from __future__ import annotations

from pathlib import Path

import click

from lorapipe.cli.completing import weights

__all__ = ["command"]


@click.command("recover")
@click.argument("file", type=click.Path(path_type=Path), shell_complete=weights)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the recipe to this file instead of printing it.",
)
@click.option(
    "--inputs",
    "--models",
    "inputs",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    help="A folder to look for the inputs in, by sha256; may be repeated.",
)
@click.option("--force", is_flag=True, help="Replace the file of --output if there is one.")
def command(file: Path, output: Path | None, inputs: tuple[Path, ...], force: bool) -> None:
    """Print the recipe that built FILE, from its metadata, ready to run.

    Every input is pinned by its sha256. Run where the inputs are, with the numbers that the
    recipe's head tells of, it makes the same bytes.
    """
    from rich.console import Console

    from lorapipe.build.events import Hashing
    from lorapipe.build.proving.recovery import recover, write_recipe
    from lorapipe.views.progress import progress_view
    from lorapipe.views.recovery import print_recovery

    console = Console(stderr=True, highlight=False)
    with progress_view(console) as listen:
        found = recover(
            file,
            inputs,
            beside=None if output is None else output.parent,
            progress=lambda path, done, total: listen(Hashing(path, done, total)),
        )
    if output is None:
        click.echo(found.recipe.text, nl=False)
    else:
        write_recipe(output, found.recipe.text, force=force)
    print_recovery(found, console)
