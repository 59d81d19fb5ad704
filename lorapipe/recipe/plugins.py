"""Third-party step kinds: looked up only when a recipe holds a kind with a dot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lorapipe.errors import LorapipeError
from lorapipe.recipe.nodes import MapNode, Node
from lorapipe.recipe.schemas import Schema

__all__ = ["GROUP", "dotted_keys", "find_schemas_of"]

GROUP = "lorapipe.steps"
"""The entry point group: each entry's name is a kind, its object a ``Kind`` with a schema."""


def dotted_keys(steps: Node | None) -> frozenset[str]:
    """The keys with a dot in a recipe's steps; core kinds and options never have one."""
    if not isinstance(steps, MapNode):
        return frozenset()
    maps = (entry.value for entry in steps.entries if isinstance(entry.value, MapNode))
    return frozenset(entry.name for step in maps for entry in step.entries if "." in entry.name)


def find_schemas_of(names: Iterable[str] | None = None) -> dict[str, Schema]:
    """The schemas of installed third-party kinds: of those named, or of all.

    A name that no package provides is left out. ``LorapipeError`` (``bad-plugin``) is
    raised for a kind that cannot be loaded or brings no usable schema.
    """
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group=GROUP) if "." in entry.name}
    wanted = sorted(found if names is None else set(names) & found.keys())
    return {name: _schema_of(name, found[name]) for name in wanted}


def _schema_of(name: str, entry: Any) -> Schema:
    from jsonschema import Draft7Validator, SchemaError

    try:
        schema = entry.load().schema
        Draft7Validator.check_schema(schema)
        usable = name in schema["properties"]
    except SchemaError as error:
        raise _bad(name, entry, f"its schema is wrong: {error.message}") from error
    except Exception as error:
        raise _bad(name, entry, f"{type(error).__name__}: {error}") from error
    if not usable:
        raise _bad(name, entry, f"its schema has no property '{name}'")
    return dict(schema)


def _bad(name: str, entry: Any, reason: str) -> LorapipeError:
    return LorapipeError(
        "bad-plugin",
        f"the step kind '{name}' of {entry.value} cannot be used: {reason}",
        hint="update or remove it",
    )
