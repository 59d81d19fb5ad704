"""Third-party step kinds."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from lorapipe.recipe import plugins
from lorapipe.recipe.parsing import parse

from .complaints import HEAD, of_step

BLUR = {
    "title": "Blur",
    "type": "object",
    "required": ["acme.blur"],
    "additionalProperties": False,
    "properties": {
        "acme.blur": {"$ref": "../common.schema.json#/definitions/step"},
        "radius": {"type": ["number", "string"], "pattern": "^\\$\\([a-z][a-z0-9_-]*\\)$", "default": 1.5},
    },
}


class Entry:
    """An installed entry point."""

    def __init__(self, name: str, load: Callable[[], object]) -> None:
        self.name = name
        self.value = "acme:kind"
        self.load = load


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Installs entry points; returns the list of groups asked for."""

    def install(**loads: Callable[[], object]) -> list[str]:
        asked: list[str] = []

        def entry_points(*, group: str) -> list[Entry]:
            asked.append(group)
            return [Entry(name.replace("_", "."), load) for name, load in loads.items()]

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        return asked

    return install


def blur() -> object:
    return SimpleNamespace(schema=BLUR)


def test_a_dotted_kind_is_looked_up_and_checked_by_its_own_schema(installed: Any) -> None:
    asked = installed(acme_blur=blur)
    recipe = parse(HEAD + "  x: {acme.blur: a, radius: 2}\n  y: {acme.blur: b}\n")
    assert asked == ["lorapipe.steps"]
    assert recipe.steps["x"].inputs["acme.blur"][0].step == "a"
    assert recipe.steps["y"].params == {"radius": 1.5}
    assert of_step("{acme.blur: q, radius: wide, size: 1}") == [
        "r.yaml:5:18: error: no step 'q'",
        "r.yaml:5:29: error: 'radius' takes a number, not 'wide'",
        "r.yaml:5:35: error: acme.blur has no option 'size' - it takes acme.blur, radius, description",
    ]


def test_no_package_is_looked_at_without_a_dotted_kind(installed: Any) -> None:
    asked = installed(acme_blur=blur)
    parse(HEAD)
    assert asked == []


def test_only_the_kinds_that_a_recipe_holds_are_loaded(installed: Any) -> None:
    def explode() -> object:
        raise RuntimeError("loaded")

    installed(acme_blur=blur, acme_other=explode)
    parse(HEAD + "  x: {acme.blur: a}\n")


def test_a_kind_that_nobody_provides_is_an_error_of_the_recipe(installed: Any) -> None:
    installed(plain=blur)
    assert of_step("{acme.blur: a}") == [
        "r.yaml:5:7: error: no step kind 'acme.blur' - no installed package provides it"
    ]


def raising() -> object:
    raise ImportError("no module named acme")


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (raising, "ImportError: no module named acme"),
        (SimpleNamespace, "AttributeError: 'types.SimpleNamespace' object has no attribute 'schema'"),
        (lambda: SimpleNamespace(schema={"properties": {}}), "its schema has no property 'acme.blur'"),
        (lambda: SimpleNamespace(schema={"type": 4}), "its schema is wrong: 4 is not valid under any of the given schemas"),
    ],
)  # fmt: skip
def test_a_broken_package_is_named(installed: Any, load: Callable[[], object], reason: str) -> None:
    installed(acme_blur=load)
    assert of_step("{acme.blur: a}") == [
        f"error: the step kind 'acme.blur' of acme:kind cannot be used: {reason} - update or remove it"
    ]


def test_all_installed_kinds_are_found_for_the_bundle(installed: Any) -> None:
    installed(acme_blur=blur, plain=raising)
    assert plugins.find_schemas_of() == {"acme.blur": BLUR}
