"""``lorapipe inspect``: what a file of weights is."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["command"]


@click.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--family", help="The model family, where the names leave it open.")
@click.option("--modules", is_flag=True, help="List every module with where it belongs.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(file: Path, family: str | None, modules: bool, as_json: bool) -> None:
    """Show what FILE holds: family, modules, ranks, dtypes, metadata. Reads its header only."""
    from lorapipe.formats.inspection import inspect_file

    found = inspect_file(file, family)
    if as_json:
        from lorapipe.views.inspection import inspection_json

        click.echo(json.dumps(inspection_json(found, modules), indent=2))
        return
    from lorapipe.views.inspection import print_inspection

    print_inspection(found, modules)
