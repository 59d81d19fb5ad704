"""``lorapipe schema``: the recipe language for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lorapipe.errors import BuildError
from lorapipe.recipe.language import core_language
from lorapipe.recipe.plugins import find_schemas_of
from lorapipe.recipe.schemas import BUNDLE_NAME, bundle

__all__ = ["command"]


@click.command("schema")
@click.option("--write", is_flag=True, help=f"Write {BUNDLE_NAME} into FOLDER instead of printing it.")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
def command(write: bool, folder: Path | None) -> None:
    """Print the JSON schema of recipes, the installed third-party kinds among it.

    With --write it is written into FOLDER (default: here), and the line is shown that
    makes an editor use it for a recipe.
    """
    text = json.dumps(bundle(core_language().files, find_schemas_of()), indent=2, ensure_ascii=False)
    if not write:
        if folder is not None:
            raise click.UsageError("a FOLDER goes with --write")
        click.echo(text)
        return
    target = (folder or Path()) / BUNDLE_NAME
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BuildError(
            "cannot-write", f"the schema cannot be written: {reason}", where=str(target)
        ) from error
    click.echo(f"wrote {target}")
    click.echo("put this line first in a recipe beside it:")
    click.echo(f"# yaml-language-server: $schema={BUNDLE_NAME}")
