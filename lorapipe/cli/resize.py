"""``lorapipe resize``: a LoRA at a smaller rank, from one line."""

from __future__ import annotations

from typing import Any

import click

from lorapipe.cli.completing import weights
from lorapipe.cli.oneliners import given, output_options, rank_options, write_and_run

__all__ = ["command"]


@click.command("resize")
@click.argument("lora", shell_complete=weights)
@rank_options(required=True)
@click.option("--max-size", metavar="SIZE", help="The size of the file to stay under, such as 100MB.")
@output_options
def command(
    lora: str,
    rank: int,
    conv_rank: int | None,
    dynamic: str | None,
    max_size: str | None,
    output: str,
    dtype: str | None,
    **running: Any,
) -> None:
    """Bring a LoRA to a smaller rank: the nearest LoRA that has it.

    lorapipe resize a.safetensors --rank 16 -o small.safetensors

    Writes the recipe beside the output and runs it.
    """
    from lorapipe.drafts import oneliners

    small = {**given(rank=rank, conv_rank=conv_rank, max_size=max_size), **oneliners.parse_rule(dynamic)}
    write_and_run(output, dtype, lambda sheet: oneliners.resize(sheet, lora, small), running)
