"""The command line: one thin file per command, imported when the command is called."""

from __future__ import annotations

from lorapipe.cli.main import main

__all__ = ["main"]
