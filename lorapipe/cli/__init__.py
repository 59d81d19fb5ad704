"""The command line: one thin file per command, imported when the command is called."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: run a command line and return its exit status."""
    from lorapipe.cli.failures import run_command
    from lorapipe.cli.main import cli

    return run_command(cli, arguments)
