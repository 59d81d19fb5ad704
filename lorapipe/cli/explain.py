"""``lorapipe explain``: why a step would run, or would not."""

from __future__ import annotations

import json

import click

from lorapipe.cli.completing import steps
from lorapipe.cli.options import Asked, build_options

__all__ = ["command"]


@click.command("explain")
@build_options
@click.argument("step", required=False, shell_complete=steps)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(
    asked: Asked,
    step: str | None,
    as_json: bool,
) -> None:
    """Say why a run of RECIPE would do STEP, or would not: what changed, old -> new.

    Without STEP every output and every stored step is explained. Reads headers and what
    earlier builds left word of, and writes nothing.
    """
    from lorapipe.build.planning import recipe_folder
    from lorapipe.build.proving.explaining import explain_recipe
    from lorapipe.views.explanation import explanation_json, print_explanations

    loaded = asked.load()
    found = explain_recipe(loaded, asked.options(), step)
    if as_json:
        click.echo(json.dumps(explanation_json(found, recipe_folder(loaded)), indent=2))
    else:
        print_explanations(found, recipe_folder(loaded))
