"""``lorapipe lock``: write down what a build of the recipe is made of."""

from __future__ import annotations

from pathlib import Path

import click

from lorapipe.cli.options import Asked, build_options

__all__ = ["command"]


@click.command("lock")
@build_options
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def command(
    asked: Asked,
    quiet: bool,
) -> None:
    """Write the lock of RECIPE without a build: inputs by sha256, steps, versions, keys.

    'run --locked' then builds just that or nothing. What is otherwise than in the lock
    before is told, old -> new. A lock with conflict markers is written anew.
    """
    from rich.console import Console

    from lorapipe.build.proving.relock import relock
    from lorapipe.views.lock_text import relocked_lines
    from lorapipe.views.progress import progress_view

    loaded, options = asked.load(), asked.options()
    with progress_view(Console(stderr=True, highlight=False), quiet=quiet) as listen:
        done = relock(loaded, options, listen=listen)
    if not quiet:
        for line in relocked_lines(done, Path.cwd()):
            click.echo(line)
