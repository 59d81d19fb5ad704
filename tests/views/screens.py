"""Terminals and logs to draw on, and names that would steer them."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from lorapipe.build.run import plan
from lorapipe.plan.plan import Plan
from lorapipe.recipe.parsing import load_recipe

from ..bench import Bench

__all__ = ["HOSTILE", "log", "planned", "steering", "terminal", "text_of"]

HOSTILE = {
    "escape": "\x1b[2J\x1b]0;owned\x07\x1b[31m",
    "carriage": "safe\rrm -rf",
    "newlines": "one\ntwo\r\nthree\x85four\u2028five",
    "markup": "[red]bold[/red] [link=http://x]y[/link] [/]",
    "html": "<script>alert(1)</script><b>&amp;\"'",
    "quotes": '"]; end "quoted" \\" `tick` #quot; #35;',
    "overlong": "x" * 3000,
    "bidi": "safetensors\u202exe.\u2066",
    "controls": "\x00\x08\x7f\x9b31m",
}
"""Names as a stranger's file or recipe might have them."""


def terminal(width: int = 80, *, colour: bool = False) -> Console:
    """A terminal that keeps what is drawn on it."""
    system = "standard" if colour else None
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=system, highlight=False)


def log() -> Console:
    """A file or a pipe."""
    return Console(file=io.StringIO(), force_terminal=False, highlight=False)


def text_of(console: Console) -> str:
    """What was drawn, without the spaces that fill a terminal's lines."""
    drawn = console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO, made above
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n" * drawn.endswith("\n")


def steering(text: str) -> list[str]:
    """The characters of a text that a terminal would obey instead of show."""
    return [c for c in text if c != "\n" and not c.isprintable()]


def planned(bench: Bench, steps: str, head: str = "", *, read: bool = False) -> tuple[Plan, Path]:
    """The plan of a recipe of these steps, and the folder it is seen from."""
    return plan(load_recipe(bench.recipe(steps, head=head)), read=read), bench.folder
