"""``lorapipe plan``: what a run would do, from headers alone."""

from __future__ import annotations

import json

import click

from lorapipe.cli.options import Asked, build_options

__all__ = ["command"]


@click.command("plan")
@build_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON (schemas/plan.v1.schema.json).")
@click.option("--modules", is_flag=True, help="Add each module with the key and rows it binds to.")
@click.option("--variants", is_flag=True, help="Show each variant of a matrix by itself.")
@click.option("--hash", "read", is_flag=True, help="Hash inputs that are not known yet.")
@click.option("--check", is_flag=True, help="Exit with status 7 when there is work to do.")
def command(
    asked: Asked,
    as_json: bool,
    modules: bool,
    variants: bool,
    read: bool,
    check: bool,
) -> None:
    """Show what a run of RECIPE would do, and every error that needs no arithmetic.

    Reads headers only and writes nothing; --hash reads whole inputs and remembers
    their sha256. A check that the headers show not to hold is status 8.
    """
    from lorapipe.build.run import plan, recipe_folder
    from lorapipe.errors import WorkPending, gathered
    from lorapipe.plan.checks import foretold_failures

    loaded = asked.load()
    made = plan(loaded, asked.options(), read=read)
    if as_json:
        from lorapipe.views.plan_json import plan_json

        click.echo(json.dumps(plan_json(made, recipe_folder(loaded), modules), indent=2))
    else:
        from lorapipe.views.plan_text import print_plan

        print_plan(made, recipe_folder(loaded), modules=modules, each=variants)
    if failed := foretold_failures(made):
        raise gathered(failed)
    if check and made.schedule:
        names = ", ".join(step.step.id for step in (*made.pending, *made.unchecked))
        raise WorkPending("work-pending", f"to be built: {names}", hint="lorapipe run builds them")
