"""``lorapipe extract``: a LoRA of the difference of two checkpoints, from one line."""

from __future__ import annotations

from typing import Any

import click

from lorapipe.cli.completing import weights
from lorapipe.cli.oneliners import given, output_options, rank_options, write_and_run

__all__ = ["command"]


@click.command("extract")
@click.argument("tuned", shell_complete=weights)
@click.option(
    "--base", required=True, metavar="FILE", shell_complete=weights, help="The checkpoint that is taken off."
)
@rank_options(required=True)
@output_options
def command(
    tuned: str,
    base: str,
    rank: int,
    conv_rank: int | None,
    dynamic: str | None,
    output: str,
    dtype: str | None,
    **running: Any,
) -> None:
    """Make a LoRA of the difference of two checkpoints.

    lorapipe extract tuned.safetensors --base base.safetensors --rank 64 -o d.safetensors

    Writes the recipe beside the output and runs it.
    """
    from lorapipe.drafts import oneliners

    options = {**given(rank=rank, conv_rank=conv_rank), **oneliners.parse_rule(dynamic)}
    write_and_run(output, dtype, lambda sheet: oneliners.extract(sheet, tuned, base, options), running)
