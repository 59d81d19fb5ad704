"""``lorapipe verify``: whether the outputs are what the lock says."""

from __future__ import annotations

import json

import click

from lorapipe.cli.options import Asked, build_options

__all__ = ["command"]


@click.command("verify")
@build_options
@click.option("--rebuild", "anew", is_flag=True, help="Build again, in a folder of its own, and compare.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads of --rebuild; by default one per core.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    asked: Asked,
    anew: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Hash the outputs of RECIPE and hold them against its lock; status 8 if one is another.

    --rebuild makes them again from the inputs, uses nothing of what was built before, and
    compares byte for byte; where bytes differ it tells by how much, tensor by tensor.
    """
    from rich.console import Console

    from lorapipe.build.planning import outputs_folder
    from lorapipe.build.proving.rebuild import rebuild, require_rebuilt
    from lorapipe.build.proving.verify import require, verify
    from lorapipe.views.progress import progress_view
    from lorapipe.views.verification import print_verification, verification_json

    loaded, options = asked.load(), asked.options(workers=workers)
    folder, screen = outputs_folder(loaded, options), Console(highlight=False)
    with progress_view(Console(stderr=True, highlight=False), quiet=as_json) as listen:
        outputs = verify(loaded, options, listen=listen)
        again = rebuild(loaded, options, outputs, listen=listen) if anew else None
    if as_json:
        click.echo(json.dumps(verification_json(outputs, again, folder), indent=2))
    else:
        print_verification(outputs, again, folder, screen)
    if again is None:
        require(outputs)
    else:
        require_rebuilt(again)
