"""``lorapipe status``: where a recipe stands."""

from __future__ import annotations

import json

import click

from lorapipe.cli.options import Asked, build_options

__all__ = ["command"]


@click.command("status")
@build_options
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--variants", is_flag=True, help="Show each variant of a matrix by itself.")
def command(
    asked: Asked,
    as_json: bool,
    variants: bool,
) -> None:
    """Show where inputs, steps and outputs of RECIPE stand against its lock and the disk.

    Reads headers and remembered hashes only, and writes nothing. What a run would do, and
    at what cost, is 'lorapipe plan'; whether outputs have the right bytes, 'lorapipe verify'.
    """
    from rich.console import Console

    from lorapipe.build.planning import recipe_folder
    from lorapipe.build.proving.status import status
    from lorapipe.errors import ManyErrors
    from lorapipe.views.status import print_status, status_json

    loaded = asked.load()
    standing, folder = status(loaded, asked.options()), recipe_folder(loaded)
    if as_json:
        click.echo(json.dumps(status_json(standing, folder), indent=2))
    else:
        print_status(standing, folder, Console(highlight=False), each=variants)
    if standing.errors:
        raise ManyErrors(standing.errors)
