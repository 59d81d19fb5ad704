"""``lorapipe concat``: the exact sum of LoRAs, from one line."""

from __future__ import annotations

from typing import Any

import click

from lorapipe.cli.completing import weights
from lorapipe.cli.oneliners import given, output_options, rank_options, write_and_run

__all__ = ["command"]


@click.command("concat")
@click.argument("loras", nargs=-1, required=True, metavar="LORA[=WEIGHT]...", shell_complete=weights)
@rank_options(required=False)
@click.option("--shuffle", "shuffled", is_flag=True, help="Mix the ranks, so that no source can be told.")
@output_options
def command(
    loras: tuple[str, ...],
    rank: int | None,
    conv_rank: int | None,
    dynamic: str | None,
    shuffled: bool,
    output: str,
    dtype: str | None,
    **running: Any,
) -> None:
    """Add LoRAs exactly, each by its weight.

    lorapipe concat a.safetensors=0.7 b.safetensors=-0.4 -o c.safetensors

    Writes the recipe beside the output and runs it.
    """
    from lorapipe.drafts import oneliners
    from lorapipe.errors import UsageError

    small = {**given(rank=rank, conv_rank=conv_rank), **oneliners.parse_rule(dynamic)}
    if small and rank is None:
        raise UsageError("rank-missing", "--conv-rank and --dynamic go with --rank", hint="give --rank too")
    terms = [oneliners.parse_term(text) for text in loras]
    write_and_run(
        output,
        dtype,
        lambda sheet: oneliners.concat(sheet, terms, shuffled=shuffled, small=small),
        running,
    )
