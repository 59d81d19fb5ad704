"""Checked nodes to values: defaults filled in, numbers in one form, places kept."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.errors import RecipeError
from lorapipe.recipe.assemble import canonical
from lorapipe.recipe.model import Step
from lorapipe.recipe.parsing import parse

from .complaints import HEAD


def step_of(step: str, **params: Any) -> Step:
    return parse(HEAD + f"  x: {step}\n", params=params).steps["x"]


def test_defaults_of_the_schema_are_filled_in_and_what_has_none_is_absent() -> None:
    assert step_of("{shuffle: a}").params == {"seed": 0, "mode": "rotate"}
    assert step_of("{svd-resize: a, rank: 4}").params == {"rank": 4}
    assert step_of("{save: a, to: x.pt}").params == {
        "to": "x.pt",
        "dtype": "keep",
        "provenance": "full",
        "layout": "keep",
        "dense": False,
    }
    assert step_of("{load: f}").params == {"load": "f"}


def test_a_step_inside_of_an_option_is_an_input_and_no_part_of_the_value() -> None:
    step = step_of("{check: a, energy: {of: b, min: 1}, differs-from: a}")
    assert {port: [t.step for t in terms] for port, terms in step.inputs.items()} == {
        "check": ["a"],
        "energy.of": ["b"],
        "differs-from": ["a"],
    }
    assert step.params == {"energy": {"min": 1.0}, "finite": False}
    assert step.places["energy"].column == 25


@pytest.mark.parametrize("rank", ["4", "4.0", "0x4", "4e0", "400e-2", "+4"])
def test_a_whole_number_is_an_integer_however_it_is_written(rank: str) -> None:
    value = step_of(f"{{svd-resize: a, rank: {rank}}}").params["rank"]
    assert (value, type(value)) == (4, int)


@pytest.mark.parametrize("number", ["1", "1.0", "1e0", "0x1"])
def test_a_number_is_a_float_however_it_is_written(number: str) -> None:
    value = step_of(f"{{scale: a, by: {number}}}").params["by"]
    assert (value, type(value)) == (1.0, float)
    weight = step_of(f"{{concat: {{a: {number}}}}}").inputs["concat"][0].weight
    assert (weight, type(weight)) == (1.0, float)


@pytest.mark.parametrize("zero", ["0", "-0", "0.0", "-0.0", "-0e5"])
def test_zero_has_no_sign(zero: str) -> None:
    by = step_of(f"{{scale: a, by: {zero}, components: {{te: {zero}}}}}").params
    weight = step_of(f"{{concat: {{a: {zero}}}}}").inputs["concat"][0].weight
    components = by["components"]
    assert isinstance(components, dict)
    for value in (by["by"], components["te"], weight):
        assert isinstance(value, float)
        assert math.copysign(1.0, value) == 1.0


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**15), 10**15))
def test_equal_numbers_have_one_canonical_form(number: int) -> None:
    for schema in ({"type": "integer"}, {"type": ["integer", "string"]}, {"type": "number"}):
        forms = {repr(canonical(value, schema)) for value in (number, float(number))}
        assert len(forms) == 1


@pytest.mark.parametrize("size", ["200", "200B", "0.2kB", "0.2 KB", "2e2"])
def test_a_size_is_its_bytes_however_it_is_written(size: str) -> None:
    params = step_of(f"{{save: a, to: out/, shard-size: {size}}}").params
    assert repr(params["shard-size"]) == "200"


@pytest.mark.parametrize("size", ["0", "0B", "0.0 kB", "00MiB"])
def test_a_size_of_nothing_is_refused(size: str) -> None:
    with pytest.raises(RecipeError, match="'shard-size' takes"):
        step_of(f"{{save: a, to: out/, shard-size: {size}}}")


def test_text_and_truth_are_not_numbers() -> None:
    assert canonical(True, {"type": "number"}) is True
    assert canonical("4", {"type": ["integer", "string"]}) == "4"
    assert canonical([1.0, {"a": 2.0}], {"items": {"type": "integer"}}) == [1, {"a": 2.0}]


def test_a_step_knows_the_place_of_its_id_and_of_every_option() -> None:
    step = step_of("{svd-resize: a, rank: 12}")
    assert (step.place.line, step.place.column) == (5, 3)
    assert {name: (p.line, p.column, p.width) for name, p in step.places.items()} == {
        "svd-resize": (5, 19, 1),
        "rank": (5, 28, 2),
    }


def test_the_description_is_no_parameter() -> None:
    step = step_of("{load: f, description: mine}")
    assert step.description == "mine"
    assert step.params == {"load": "f"}


def test_a_recipe_holds_what_is_in_force() -> None:
    recipe = parse(
        "lorapipe: 1\nname: n\ndescription: d\nparams: {w: 1.0, k: ~}\nsteps: {a: {load: f}}\n",
        "dir/r.yaml",
        {"k": 3},
    )
    assert (recipe.file, recipe.name, recipe.description) == ("dir/r.yaml", "n", "d")
    assert recipe.params == {"w": 1.0, "k": 3}
    assert recipe.defaults == {"device": "auto", "compute": "float64"}
    assert list(recipe.steps) == ["a"]


def test_a_recipe_cannot_be_changed() -> None:
    recipe = parse(HEAD)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.name = "x"  # type: ignore[misc]  # that is the test
    for mapping in (
        recipe.steps,
        recipe.params,
        recipe.defaults,
        recipe.steps["a"].params,
        recipe.extensions,
    ):
        with pytest.raises(TypeError):
            mapping["new"] = None  # type: ignore[index]  # that is the test
