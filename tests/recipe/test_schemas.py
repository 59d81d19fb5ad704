"""The schema files, where they are found, and the bundle for editors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from lorapipe.errors import LorapipeError
from lorapipe.recipe.language import HOLE, core_language
from lorapipe.recipe.schemas import bundle, find_schemas, inline, read_schemas, schema_file

ROOT = Path(__file__).resolve().parents[2]
FILES = read_schemas(ROOT / "schemas")


def fragments(schema: Any) -> Iterator[dict[str, Any]]:
    """Every map inside a schema, that of the schema included."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from fragments(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from fragments(value)


def test_a_checkout_has_its_schemas_beside_the_package() -> None:
    assert find_schemas(ROOT / "lorapipe") == ROOT / "schemas"


def test_the_lorapipe_under_test_finds_its_own() -> None:
    assert schema_file("common.schema.json").is_file()


def test_where_there_are_none_the_remedy_is_said(tmp_path: Path) -> None:
    with pytest.raises(LorapipeError) as caught:
        find_schemas(tmp_path / "lorapipe")
    assert str(caught.value) == (
        f"error: the recipe schemas are not beside {tmp_path / 'lorapipe'} - install lorapipe again"
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built by its build backend."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    script = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0 and "OSError" in done.stderr:
        pytest.skip("the checkout lacks a file that the wheel needs")
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.strip().splitlines()[-1]


def test_a_wheel_holds_every_schema_and_finds_them(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("lorapipe/_schemas/")}
        archive.extractall(tmp_path)
    sources = {
        f"lorapipe/_schemas/{p.relative_to(ROOT / 'schemas')}" for p in (ROOT / "schemas").rglob("*.json")
    }
    assert names == sources
    script = (
        "from lorapipe.recipe.schemas import find_schemas; from lorapipe.recipe import parse;"
        "print(find_schemas()); print(len(parse('{lorapipe: 1, steps: {a: {load: f}}}').steps))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(tmp_path.resolve() / "lorapipe" / "_schemas"), "1"]


@pytest.mark.parametrize("name", FILES)
def test_a_source_is_a_draft_7_schema_without_an_id(name: str) -> None:
    """Editors would fetch an ``$id``, and ignored newer drafts in silence until 2025."""
    Draft7Validator.check_schema(FILES[name])
    assert FILES[name]["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert not any("$id" in one for one in fragments(FILES[name]))


KINDS = core_language().kinds


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_closed_and_documented_whole(name: str) -> None:
    schema = KINDS[name].schema
    assert schema["additionalProperties"] is False
    assert schema["required"][0] == name
    assert next(iter(schema["properties"])) == name
    assert schema["title"]
    for option in [schema, *schema["properties"].values()]:
        description = option["description"]
        assert description.endswith(".")
        assert not re.search(r"[`*_]{2}|`|<", description), "hovers show plain text"
    for option in KINDS[name].options.values():
        assert "default" in option.schema or option.examples, f"{option.name} needs an example"


def keys_of(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that a schema names, maps inside maps included, with what it takes."""
    for one in fragments(schema):
        if isinstance(one.get("type"), str | list):
            yield from one.get("properties", {}).items()
            free = one.get("additionalProperties")
            yield from [("additionalProperties", free)] if isinstance(free, dict) else []


@pytest.mark.parametrize("name", [*KINDS, "recipe"])
def test_every_key_has_a_hover_and_something_to_complete(name: str) -> None:
    """Of keys that the recipe chooses itself (a block, a param) the value is nobody's to suggest."""
    schema = core_language().top if name == "recipe" else KINDS[name].schema
    keys = list(keys_of(dict(schema)))
    assert keys
    for key, takes in keys:
        assert takes.get("description"), key
        free = key == "additionalProperties"
        assert free or takes.get("examples") or "default" in takes or "const" in takes, key


@pytest.mark.parametrize("name", KINDS)
def test_examples_and_defaults_are_right_by_their_own_schema(name: str) -> None:
    for one in fragments(KINDS[name].schema):
        if "type" not in one and "pattern" not in one:
            continue
        for value in [*one.get("examples", []), *([one["default"]] if "default" in one else [])]:
            assert list(Draft7Validator(one).iter_errors(value)) == []


def test_every_scalar_takes_a_hole() -> None:
    defaults = inline(FILES["recipe.v1"]["properties"]["defaults"], FILES)
    for schema in [defaults, *(kind.schema for kind in KINDS.values())]:
        for one in fragments(schema):
            types = one.get("type", [])
            scalar = {"string", "integer", "number", "boolean"} & set(
                [types] if isinstance(types, str) else types
            )
            if scalar:
                assert list(Draft7Validator(one).iter_errors("$(name)")) == [], one


def test_a_pattern_for_holes_says_what_it_takes() -> None:
    for name in FILES:
        for one in fragments(FILES[name]):
            if HOLE in str(one.get("pattern", "")):
                assert one["patternErrorMessage"], one


def test_the_words_of_a_pattern_are_its_examples() -> None:
    """Editors complete from the examples, the pattern refuses: they must be the same words."""
    checked = set()
    for kind in KINDS.values():
        for option in kind.options.values():
            pattern = str(option.schema.get("pattern", ""))
            if option.choices:
                assert pattern == f"^(?:{'|'.join(option.choices)}|{HOLE})$"
                checked.add(option.name)
    assert checked == {
        "as", "mode", "unmatched", "strength-rule", "dtype", "provenance", "layout", "bias", "method",
        "alpha", "average", "elect", "normalize", "side",
    }  # fmt: skip


def test_other_names_mean_something() -> None:
    for kind in KINDS.values():
        assert set(kind.also_known_as.values()) <= {kind.name}
        assert not set(kind.also_known_as) & set(KINDS)
        for option in kind.options.values():
            assert set(option.also_known_as.values()) <= {option.name, *option.choices}
            assert not set(option.also_known_as) & set(kind.options)


def test_inline_follows_references_and_what_stands_beside_wins() -> None:
    files = {
        "common": {
            "definitions": {
                "a": {"type": "string", "description": "of a"},
                "b": {"items": {"$ref": "#/definitions/a"}},
            }
        },
    }
    schema = {"x": {"$ref": "../common.schema.json#/definitions/b", "description": "mine"}}
    assert inline(schema, files) == {
        "x": {"items": {"type": "string", "description": "of a"}, "description": "mine"}
    }


BUNDLE = bundle(FILES)


def test_the_bundle_refers_only_to_itself() -> None:
    Draft7Validator.check_schema(BUNDLE)
    refs = [one["$ref"] for one in fragments(BUNDLE) if isinstance(one.get("$ref"), str)]
    assert refs
    for ref in refs:
        target: Any = BUNDLE
        assert ref.startswith("#/")
        for part in ref[2:].split("/"):
            target = target[part]


def test_the_bundle_chooses_by_kind_and_offers_kinds() -> None:
    """The shape that completes best in the YAML language server."""
    shape = BUNDLE["definitions"]["any-step"]
    kinds = [path.name.removesuffix(".schema.json") for path in (ROOT / "schemas" / "steps").iterdir()]
    assert sorted(one["required"][0] for one in shape["if"]["anyOf"]) == sorted(kinds)
    assert sorted(shape["then"]["dependencies"]) == sorted(kinds)
    assert sorted(shape["else"]["properties"]) == sorted(kinds)
    assert shape["else"]["additionalProperties"] is False


def test_the_bundle_takes_further_kinds() -> None:
    kind = {
        "type": "object",
        "required": ["acme.blur"],
        "additionalProperties": False,
        "properties": {
            "acme.blur": {"$ref": "../common.schema.json#/definitions/step"},
            "radius": {"type": "number"},
        },
    }
    validator = Draft7Validator(bundle(FILES, {"acme.blur": kind}))
    recipe = {"lorapipe": 1, "steps": {"a": {"load": "f"}, "b": {"acme.blur": "a", "radius": 2}}}
    assert validator.is_valid(recipe)
    recipe["steps"]["b"]["radius"] = "x"  # type: ignore[index]  # a literal of maps
    assert not validator.is_valid(recipe)
    assert not Draft7Validator(BUNDLE).is_valid(recipe)
