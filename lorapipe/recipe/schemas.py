"""The schema files: where they are, and the one bundle that editors read.

The sources are draft-07 without ``$id`` (an editor would fetch it) and refer to
each other by relative paths. They lie in ``schemas/`` of a checkout and in
``lorapipe/_schemas`` of a wheel; nothing else looks for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorapipe.errors import LorapipeError

__all__ = ["BUNDLE_NAME", "Schema", "bundle", "find_schemas", "inline", "read_schemas", "schema_file"]

Schema = Mapping[str, Any]
"""A JSON schema, or a fragment of one, as the json module reads it."""

BUNDLE_NAME = "recipe.v1.schema.json"
"""The file name of the recipe's own schema, and of the published bundle."""

_COMMON = "common"
_RECIPE = "recipe.v1"


def find_schemas(package: Path | None = None) -> Path:
    """The folder of the schema files.

    ``package`` is the folder of the installed package (default: this one). A wheel
    has the schemas inside it as ``_schemas``, a checkout beside it as ``schemas``;
    ``schemas-missing`` is raised when neither is there.
    """
    package = Path(__file__).resolve().parent.parent if package is None else package
    for folder in (package / "_schemas", package.parent / "schemas"):
        if (folder / BUNDLE_NAME).is_file():
            return folder
    raise LorapipeError(
        "schemas-missing",
        f"the recipe schemas are not beside {package}",
        hint="install lorapipe again",
    )


def schema_file(name: str) -> Path:
    """The path of one schema file, such as ``plan.v1.schema.json``."""
    return find_schemas() / name


def read_schemas(folder: Path) -> dict[str, Schema]:
    """The language's files by name: ``common``, ``recipe.v1``, and each kind's own name."""
    paths = [folder / "common.schema.json", folder / BUNDLE_NAME, *sorted(folder.glob("steps/*.schema.json"))]
    return {_stem(path.name): json.loads(path.read_text(encoding="utf-8")) for path in paths}


def inline(schema: Any, files: Mapping[str, Schema], here: str = _COMMON) -> Any:
    """``schema`` with every ``$ref`` replaced by what it names.

    What stands beside a ``$ref`` (a description, examples) wins over what it names.
    ``here`` is the file that a reference without a file part means.
    """
    if isinstance(schema, list):
        return [inline(item, files, here) for item in schema]
    if not isinstance(schema, dict):
        return schema
    beside = {key: inline(value, files, here) for key, value in schema.items() if key != "$ref"}
    if "$ref" not in schema:
        return beside
    name, path = _parse_ref(schema["$ref"], here)
    target: Any = files[name]
    for key in path:
        target = target[key]
    return {**inline(target, files, name), **beside}


def bundle(files: Mapping[str, Schema], kinds: Mapping[str, Schema] | None = None) -> dict[str, Any]:
    """One self-contained schema of a whole recipe, for editors.

    ``files`` are the sources (:func:`read_schemas`); ``kinds`` are further step
    kinds by name, such as installed third-party ones. Every reference in the
    result is local to it.
    """
    kinds = {**{name: files[name] for name in _core_kinds(files)}, **(kinds or {})}
    recipe = dict(files[_RECIPE])
    definitions = {
        **recipe.pop("definitions"),
        **files[_COMMON]["definitions"],
        **{f"{name}-step": _fragment(schema) for name, schema in kinds.items()},
    }
    definitions["any-step"] = _any_step(definitions["any-step"], list(kinds))
    result: dict[str, Any] = _localise({**recipe, "definitions": definitions}, _RECIPE)
    return result


def _core_kinds(files: Mapping[str, Schema]) -> list[str]:
    """The core kinds in the order in which the recipe schema offers them."""
    return list(files[_RECIPE]["definitions"]["any-step"]["then"]["dependencies"])


def _any_step(shape: Schema, kinds: list[str]) -> Schema:
    """The shape of ``any-step`` over ``kinds``.

    Of six shapes tried in the YAML language server this one gave the best
    completion and messages: the kind present chooses the schema, and a step
    without a kind is offered the kinds.
    """
    return {
        **shape,
        "if": {"anyOf": [{"required": [kind]} for kind in kinds]},
        "then": {"dependencies": {kind: {"$ref": f"steps/{kind}.schema.json"} for kind in kinds}},
        "else": {
            **shape["else"],
            "properties": {kind: {"$ref": f"steps/{kind}.schema.json#/properties/{kind}"} for kind in kinds},
        },
    }


def _fragment(schema: Schema) -> Schema:
    """A schema file's content as a definition inside another schema."""
    return {key: value for key, value in schema.items() if key != "$schema"}


def _localise(schema: Any, here: str) -> Any:
    """References between files, turned into references to the bundle's definitions."""
    if isinstance(schema, list):
        return [_localise(item, here) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _localise(value, here) for key, value in schema.items()}
    if isinstance(result.get("$ref"), str):
        name, path = _parse_ref(result["$ref"], here)
        if name not in (_COMMON, _RECIPE):
            path = ["definitions", f"{name}-step", *path]
        result["$ref"] = "#/" + "/".join(path)
    return result


def _parse_ref(ref: str, here: str) -> tuple[str, list[str]]:
    """``steps/load.schema.json#/properties/load`` is ``("load", ["properties", "load"])``."""
    file, _, pointer = ref.partition("#")
    name = _stem(file.rpartition("/")[2]) if file else here
    return name, [part for part in pointer.split("/") if part]


def _stem(file_name: str) -> str:
    return file_name.removesuffix(".schema.json")
