"""``lorapipe run``: make what a recipe says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorapipe.cli.options import Asked, build_options, memory_size, progress_options

if TYPE_CHECKING:
    from lorapipe.build.looking.recording import Recording
    from lorapipe.build.result import Built

__all__ = ["command"]


@click.command("run")
@build_options
@click.option(
    "--workers", type=click.IntRange(min=1), help="Threads, or dask's processes; by default one per core."
)
@click.option(
    "--memory", metavar="SIZE", help="The most that each process may take, such as 1GiB; by default any."
)
@click.option(
    "--engine",
    # As ENGINES in build/choice.py, which would load more for the help.
    type=click.Choice(["threads", "dask"]),
    default="threads",
    help="What does the work: threads, or processes and machines (docs/how-to/cluster.md).",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="With --engine dask: its scheduler, or the file that it writes; else processes are started here.",
)
@click.option("--locked", is_flag=True, help="Build what the lock describes, or nothing.")
@click.option("--frozen", is_flag=True, help="As --locked; inputs are hashed while they are read.")
@click.option("--any-profile", is_flag=True, help="With --locked: another torch or device will do.")
@click.option("--force", is_flag=True, help="Replace files that lorapipe did not write.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page on the run: steps, times, norms, ranks, what a merge changes.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the outputs as JSON (schemas/built.v1.schema.json)."
)
@progress_options
def command(
    asked: Asked,
    workers: int | None,
    memory: str | None,
    engine: str,
    scheduler: str | None,
    locked: bool,
    frozen: bool,
    any_profile: bool,
    force: bool,
    report: Path | None,
    as_json: bool,
    progress: str,
    progress_fd: int,
    quiet: bool,
    verbose: bool,
) -> None:
    """Build every output of RECIPE that is not up to date.

    The same recipe and inputs give the same bytes. What was built before and is still
    right is not built again.

    With --locked inputs, recipe, params and versions must be those of the lock, which
    'lorapipe lock' writes; else nothing is done, and every difference is named.
    """
    from rich.console import Console

    from lorapipe.build.looking.recording import Recording
    from lorapipe.build.run import build
    from lorapipe.cli.report import reported, writable
    from lorapipe.errors import LorapipeError
    from lorapipe.plan.checks import is_of_checks
    from lorapipe.views.plan_text import print_warnings
    from lorapipe.views.progress import progress_view
    from lorapipe.views.tables import built_totals
    from lorapipe.views.text import visible

    options = asked.options(
        workers=workers,
        force=force,
        memory=None if memory is None else memory_size(memory),
        locked=locked,
        frozen=frozen,
        any_profile=any_profile,
        engine=engine,
        scheduler=scheduler,
    )
    console, recording = Console(stderr=True, highlight=False), Recording()
    silent = quiet and progress != "json"
    try:
        with progress_view(console, progress, quiet=silent, verbose=verbose, fd=progress_fd) as shown:
            loaded, listen = asked.load(), recording.beside(shown)
            if report is None:
                built = build(loaded, options, listen=listen)
            else:
                writable(report, force=force)
                built = reported(loaded, options, report, recording, listen)
    except LorapipeError as error:
        if is_of_checks(error):  # what they do not hold back is there
            _print_made(recording, None, as_json=as_json, quiet=quiet)
        raise
    if not quiet and progress != "json":  # on stderr are then events, and nothing else
        print_warnings(built.plan, console)
        if totals := built_totals(built):
            console.print(totals, markup=False, soft_wrap=True)
        if report is not None:
            console.print(f"report: {visible(str(report))}", markup=False, soft_wrap=True)
    _print_made(recording, built, as_json=as_json, quiet=quiet)


def _print_made(recording: Recording, built: Built | None, *, as_json: bool, quiet: bool) -> None:
    """Print what was made: ``built`` is ``None`` where checks do not hold."""
    from rich.console import Console

    from lorapipe.views.built_json import built_json
    from lorapipe.views.sweeps import print_sweep
    from lorapipe.views.tables import built_table, print_table

    if as_json:
        click.echo(json.dumps(built_json(recording.ready, recording.sweep), indent=1, allow_nan=False))
        return
    if quiet:
        return
    console = Console(file=sys.stdout, highlight=False)
    if built is not None and (made := built_table(built, Path.cwd())).row_count:
        print_table(made, console)
    if recording.sweep is not None:
        print_sweep(recording.sweep, Path.cwd(), console)
