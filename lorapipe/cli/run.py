"""``lorapipe run``: make what a recipe says."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lorapipe.cli.options import Asked, build_options, memory_size, progress_options

__all__ = ["command"]


@click.command("run")
@build_options
@click.option("--workers", type=click.IntRange(min=1), help="Threads; by default one per core.")
@click.option(
    "--memory", metavar="SIZE", help="The most that the build may take, such as 1GiB; by default any."
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
@progress_options
def command(
    asked: Asked,
    workers: int | None,
    memory: str | None,
    locked: bool,
    frozen: bool,
    any_profile: bool,
    force: bool,
    report: Path | None,
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

    from lorapipe.build.run import build
    from lorapipe.cli.report import reported, writable
    from lorapipe.views.plan_text import print_warnings
    from lorapipe.views.progress import progress_view
    from lorapipe.views.tables import built_table, built_totals, print_table
    from lorapipe.views.text import visible

    options = asked.options(
        workers=workers,
        force=force,
        memory=None if memory is None else memory_size(memory),
        locked=locked,
        frozen=frozen,
        any_profile=any_profile,
    )
    console = Console(stderr=True, highlight=False)
    silent = quiet and progress != "json"
    with progress_view(console, progress, quiet=silent, verbose=verbose, fd=progress_fd) as listen:
        loaded = asked.load()
        if report is None:
            built = build(loaded, options, listen=listen)
        else:
            writable(report, force=force)
            built = reported(loaded, options, report, listen)
    if quiet:
        return
    if progress != "json":  # whose plan has the warnings: on stderr are events, and nothing else
        print_warnings(built.plan, console)
        if totals := built_totals(built):
            console.print(totals, markup=False, soft_wrap=True)
        if report is not None:
            console.print(f"report: {visible(str(report))}", markup=False, soft_wrap=True)
    made = built_table(built, Path.cwd())
    print_table(made, Console(file=sys.stdout, highlight=False))
