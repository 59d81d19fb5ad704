"""``lorapipe merge``: LoRAs into a checkpoint, from one line."""

from __future__ import annotations

from typing import Any

import click

from lorapipe.cli.completing import weights
from lorapipe.cli.oneliners import given, output_options, write_and_run

__all__ = ["command"]


@click.command("merge")
@click.argument("checkpoint", shell_complete=weights)
@click.argument("loras", nargs=-1, required=True, metavar="LORA[=WEIGHT]...", shell_complete=weights)
@click.option(
    "--unmatched",
    type=click.Choice(["error", "warn", "ignore"]),
    help="What to do with modules that have no place in the checkpoint; error unless given.",
)
@output_options
def command(
    checkpoint: str,
    loras: tuple[str, ...],
    unmatched: str | None,
    output: str,
    dtype: str | None,
    **running: Any,
) -> None:
    """Merge LoRAs into a checkpoint, each by its weight.

    lorapipe merge base.safetensors a.safetensors=0.8 -o merged.safetensors

    Writes the recipe beside the output and runs it.
    """
    from lorapipe.drafts import oneliners

    terms = [oneliners.parse_term(text) for text in loras]
    options = given(unmatched=unmatched)
    write_and_run(output, dtype, lambda sheet: oneliners.merge(sheet, checkpoint, terms, options), running)
