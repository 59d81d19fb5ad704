"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lorapipe.cli.completing import devices, params, recipes

__all__ = [
    "build_options",
    "duration",
    "memory_size",
    "progress_options",
    "recipe_argument",
    "recipes_argument",
    "setting_option",
]

F = TypeVar("F", bound=Callable[..., Any])

recipe_argument = click.argument("recipe", type=click.Path(path_type=Path), shell_complete=recipes)

recipes_argument = click.argument(
    "recipes",
    metavar="RECIPE...",
    nargs=-1,
    required=True,
    type=click.Path(allow_dash=True),
    shell_complete=recipes,
)

setting_option = click.option(
    "--set",
    "settings",
    metavar="NAME=VALUE",
    multiple=True,
    shell_complete=params,
    help="Give a param of the recipe another value; may be repeated.",
)


def memory_size(text: str, option: str = "--memory") -> int:
    """Bytes of ``1GiB``; raises :class:`~lorapipe.errors.UsageError` ``bad-size``."""
    from lorapipe.errors import RecipeError, UsageError
    from lorapipe.recipe.sizes import size_in_bytes

    try:
        return size_in_bytes(text)
    except RecipeError:
        raise UsageError("bad-size", f"{option} takes a size, not '{text}'", hint="such as 1GiB") from None


_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def duration(text: str, option: str) -> float:
    """Seconds of ``30d``; raises :class:`~lorapipe.errors.UsageError` ``bad-duration``.

    >>> duration("36h", "--older-than") == duration("1.5d", "--older-than")
    True
    """
    import re

    from lorapipe.errors import UsageError

    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]+)?) ?(s|min|h|d|w)", text)
    if found is None:
        hint = "such as 30d, 12h or 90min"
        raise UsageError("bad-duration", f"{option} takes a length of time, not '{text}'", hint=hint)
    return float(found[1]) * _SECONDS[found[2]]


def build_options(command: F) -> F:
    """What ``plan`` and ``run`` have in common, in the order of the help."""
    decorators = [
        recipe_argument,
        setting_option,
        click.option(
            "--device",
            metavar="NAME",
            shell_complete=devices,
            help="auto, cpu, cuda, cuda:1 or mps, over the recipe's own.",
        ),
        click.option(
            "--models",
            type=click.Path(path_type=Path, file_okay=False),
            multiple=True,
            help="A folder to look for inputs in, beside LORAPIPE_MODELS; may be repeated.",
        ),
        click.option(
            "--output-root",
            type=click.Path(path_type=Path, file_okay=False),
            help="The folder that outputs are relative to, instead of the recipe's.",
        ),
        click.option(
            "--lock",
            type=click.Path(path_type=Path, dir_okay=False),
            help="The lock file, if not beside the recipe.",
        ),
    ]
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def progress_options(command: F) -> F:
    """How a build is shown while it goes."""
    decorators = [
        click.option(
            "--progress",
            # As MODES in views/progress.py, which would load rich for the help.
            type=click.Choice(["auto", "live", "plain", "json", "none"]),
            default="auto",
            help="Live on a terminal, else plain lines; json has one event a line (docs/progress.md).",
        ),
        click.option(
            "--progress-fd",
            type=click.IntRange(min=0),
            default=2,
            help="The file descriptor that --progress json writes to; 2 unless given.",
        ),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
        click.option(
            "-v",
            "--verbose",
            is_flag=True,
            help="Add keys, what is decided of steps, states of files.",
        ),
    ]
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
