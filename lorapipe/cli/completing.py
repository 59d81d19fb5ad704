"""What a shell offers at TAB, beyond what click tells it of commands, options and choices.

Names of files and what one recipe says; a recipe that cannot be read gives nothing, since a prompt
is no place for errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from lorapipe.recipe.nodes import MapNode

__all__ = [
    "axes",
    "devices",
    "dtypes",
    "kinds",
    "params",
    "recipes",
    "recipes_and_weights",
    "steps",
    "weights",
]

Find = Callable[[click.Context, str], Mapping[str, str]]
"""From a command line so far and the word that is begun to words with a note each, or ``""``."""

Complete = Callable[[click.Context, click.Parameter, str], list["CompletionItem[str]"]]
"""What click calls."""


def _offered(find: Find, sort: str = "plain") -> Complete:
    """What click calls, of a function that finds; ``sort`` is how a shell treats the words."""

    @wraps(find)
    def complete(
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG001 - click's signature
        incomplete: str,
    ) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        found = find(ctx, incomplete)
        words = [word for word in found if word.startswith(incomplete) and word.isprintable()]
        return [CompletionItem(word, sort, found[word] or None) for word in words]

    return complete


def _files(*suffixes: str) -> Complete:
    """Files with one of the suffixes, and folders with a slash; hidden ones only to a dot."""

    def find(ctx: click.Context, incomplete: str) -> Mapping[str, str]:  # noqa: ARG001 - see Find
        folder, slash, begun = incomplete.rpartition("/")
        try:
            entries = sorted(Path(folder + slash).expanduser().iterdir())
        except (OSError, RuntimeError):  # no such folder, nobody's home
            return {}
        shown = [entry for entry in entries if begun.startswith(".") or not entry.name.startswith(".")]
        ends = {entry: "/" if entry.is_dir() else "" for entry in shown}
        return {
            f"{folder}{slash}{entry.name}{end}": ""
            for entry, end in ends.items()
            if end or entry.suffix.lower() in suffixes
        }

    return _offered(find, "path")


_RECIPES = (".yaml", ".yml")
_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".bin")

recipes = _files(*_RECIPES)
weights = _files(*_WEIGHTS)
recipes_and_weights = _files(*_RECIPES, *_WEIGHTS)


@_offered
def steps(ctx: click.Context, incomplete: str) -> Mapping[str, str]:  # noqa: ARG001 - see Find
    """The ids of the steps of the recipe that the line has named, with the key that each begins with."""
    from lorapipe.recipe.nodes import MapNode

    found = _section(ctx, "steps")
    return {
        entry.name: entry.value.entries[0].name
        for entry in (() if found is None else found.entries)
        if isinstance(entry.value, MapNode) and entry.value.entries
    }


@_offered
def params(ctx: click.Context, incomplete: str) -> Mapping[str, str]:  # noqa: ARG001 - see Find
    """``name=`` of the params of the recipe that the line has named, with their defaults."""
    from lorapipe.recipe.nodes import Scalar

    found = _section(ctx, "params")
    return {
        f"{entry.name}=": entry.value.text if isinstance(entry.value, Scalar) else ""
        for entry in (() if found is None else found.entries)
    }


@_offered
def axes(ctx: click.Context, incomplete: str) -> Mapping[str, str]:  # noqa: ARG001 - see Find
    """``axis=value`` of the matrix of the recipe that the line has named."""
    from lorapipe.recipe.matrix import axes_of
    from lorapipe.recipe.nodes import ListNode, Scalar

    root = _root(ctx)
    return {
        f"{axis}={item.text}": ""
        for axis, entry in ({} if root is None else axes_of(root)).items()
        for item in (entry.value.items if isinstance(entry.value, ListNode) else ())
        if isinstance(item, Scalar)
    }


@_offered
def kinds(ctx: click.Context, incomplete: str) -> Mapping[str, str]:  # noqa: ARG001 - see Find
    """The kinds of steps, with what they do."""
    from lorapipe.recipe.language import core_language

    return {name: kind.summary for name, kind in core_language().kinds.items()}


@_offered
def devices(ctx: click.Context, incomplete: str) -> Mapping[str, str]:  # noqa: ARG001 - see Find
    """The devices that the recipe's schema names."""
    from lorapipe.recipe.language import core_language

    schema = core_language().top["properties"]["defaults"]["properties"]["device"]
    return dict.fromkeys(schema["examples"], "")


@_offered
def dtypes(ctx: click.Context, incomplete: str) -> Mapping[str, str]:  # noqa: ARG001 - see Find
    """The types that ``save`` writes."""
    from lorapipe.recipe.language import core_language

    return dict.fromkeys(core_language().kind("save").options["dtype"].choices, "")


def _section(ctx: click.Context, name: str) -> MapNode | None:
    """A map of the recipe that the command line has named so far."""
    from lorapipe.recipe.nodes import MapNode

    root = _root(ctx)
    section = None if root is None else root.get(name)
    return section if isinstance(section, MapNode) else None


def _root(ctx: click.Context) -> MapNode | None:
    """The recipe that the command line has named so far."""
    from lorapipe.errors import LorapipeError
    from lorapipe.recipe.nodes import MapNode
    from lorapipe.recipe.parsing import read, read_text

    given = [ctx.params[key] for key in ("recipe", "recipes", "paths", "what") if ctx.params.get(key)]
    words = [str(word) for one in given for word in (one if isinstance(one, tuple) else (one,))]
    # Behind an option whose value is due click has not yet given the words to the arguments.
    named = next((word for word in [*words, *ctx.args] if Path(word).suffix in _RECIPES), None)
    if named is None:
        return None
    try:
        root = read(read_text(Path(named).expanduser())).root
    except (LorapipeError, RuntimeError):
        return None
    return root if isinstance(root, MapNode) else None
