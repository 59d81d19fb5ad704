"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lorapipe.cli.completing import axes, devices, params, recipes

if TYPE_CHECKING:
    from lorapipe.build.planning import Options
    from lorapipe.recipe.model import Recipe
    from lorapipe.recipe.params import Setting
    from lorapipe.remote.url import Location

__all__ = [
    "Asked",
    "build_options",
    "duration",
    "lock_option",
    "memory_size",
    "models_option",
    "only_option",
    "output_root_option",
    "progress_options",
    "recipe_argument",
    "recipes_argument",
    "setting_option",
    "settings_given",
    "together",
]

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line says of the recipe and of where its files are: :func:`build_options`."""

    recipe: Path
    settings: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    device: str | None = None
    models: tuple[Path, ...] = ()
    output_root: Location | None = None
    lock: Path | None = None

    def load(self) -> Recipe:
        """The recipe with what ``--set`` gives; raises as :func:`~lorapipe.recipe.parsing.load_recipe`."""
        from lorapipe.recipe.parsing import load_recipe

        return load_recipe(self.recipe, settings_given(self.settings))

    def options(self, **more: Any) -> Options:
        """How to build, with ``more`` fields of :class:`~lorapipe.build.planning.Options`."""
        from lorapipe.build.planning import Options
        from lorapipe.recipe.selection import parse_only

        return Options(
            device=self.device,
            models=self.models,
            output_root=self.output_root,
            lock=self.lock,
            only=parse_only(self.only),
            **more,
        )


def settings_given(settings: Iterable[str]) -> dict[str, Setting]:
    """The params of each ``--set``; raises as :func:`~lorapipe.recipe.params.parse_setting`."""
    from lorapipe.recipe.params import parse_setting

    return dict(map(parse_setting, settings))


def together(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options as one decorator, in the order of the help."""
    return lambda command: reduce(lambda inner, option: option(inner), reversed(options), command)


class WeightsPath(click.Path):
    """A file or folder of weights, of this machine or a URL."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from lorapipe.errors import RecipeError, UsageError
        from lorapipe.remote.url import is_url, parse_url

        if not isinstance(value, str) or not is_url(value):
            return super().convert(value, param, ctx)
        try:
            return parse_url(value)
        except RecipeError as error:
            raise UsageError(error.code, error.message, hint=error.hint) from error


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

only_option = click.option(
    "--only",
    metavar="AXIS=VALUE",
    multiple=True,
    shell_complete=axes,
    help="Only the variants of the matrix with this value; may be repeated.",
)

models_option = click.option(
    "--models",
    type=click.Path(path_type=Path, file_okay=False),
    multiple=True,
    help="A folder to look for inputs in, beside LORAPIPE_MODELS; may be repeated.",
)


class _FolderOrUrl(click.Path):
    """A folder of this machine, or one elsewhere."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from lorapipe.errors import RecipeError, UsageError
        from lorapipe.remote.url import is_url, parse_url

        if not isinstance(value, str) or not is_url(value):
            return super().convert(value, param, ctx)
        try:
            return parse_url(value).as_folder()
        except RecipeError as error:
            message, hint = f"--output-root: {error.message}", error.hint
            if error.code == "unknown-scheme":
                message, hint = f"--output-root: nothing is written to '{value[:80]}'", _WRITABLE
            raise UsageError(error.code, message, hint=hint) from error


_WRITABLE = "name a folder, s3://bucket/prefix or gs://bucket/prefix"


output_root_option = click.option(
    "--output-root",
    type=_FolderOrUrl(),
    help="The folder that outputs are relative to, instead of the recipe's; s3://... and gs://... too.",
)

lock_option = click.option(
    "--lock",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The lock file, if not beside the recipe.",
)

_build_options = together(
    recipe_argument,
    setting_option,
    only_option,
    click.option(
        "--device",
        metavar="NAME",
        shell_complete=devices,
        help="auto, cpu, cuda, cuda:1 or mps, over the recipe's own.",
    ),
    models_option,
    output_root_option,
    lock_option,
)

progress_options = together(
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
)
"""How a build is shown while it goes."""


def build_options(command: Callable[..., R]) -> Callable[..., R]:
    """Options of what is built and where its files are: the command takes them as one :class:`Asked`."""

    @wraps(command)
    def asking(**given: Any) -> R:
        return command(Asked(**{field.name: given.pop(field.name) for field in fields(Asked)}), **given)

    return _build_options(asking)


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
