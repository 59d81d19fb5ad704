"""``--only``: which variants are wanted, and which steps are none of theirs."""

from __future__ import annotations

from typing import Any

import pytest

from lorapipe.errors import UsageError
from lorapipe.recipe.model import Recipe
from lorapipe.recipe.params import Setting
from lorapipe.recipe.parsing import parse
from lorapipe.recipe.selection import chosen, left_out, named_steps, narrowed, parse_only

MIXED = """\
lorapipe: 1
params: {seed: 1}
matrix:
  s: [0.5, 1.0]
  r: [4, 8]
  t: [auto, "8", "a b", true]
  exclude: [{s: 1.0, r: 8}]
steps:
  a: {load: a.pt}
  b: {scale: a, by: $(s)}
  c: {svd-resize: b, rank: $(r)}
  d: {shuffle: a, description: $(t) of $(seed)}
"""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return parse(MIXED, "r.yaml")


def asked(recipe: Recipe, *arguments: str) -> list[tuple[Any, ...]]:
    return [tuple(variant.values()) for variant in chosen(recipe, parse_only(arguments))]


def test_values_of_one_axis_are_a_union_and_axes_an_intersection(recipe: Recipe) -> None:
    assert len(asked(recipe)) == 12
    assert {found[:2] for found in asked(recipe, "r=4")} == {(0.5, 4), (1.0, 4)}
    assert {found[:2] for found in asked(recipe, "r=4", "r=8")} == {(0.5, 4), (0.5, 8), (1.0, 4)}
    assert {found[:2] for found in asked(recipe, "r=4", "r=8", "s=0.5")} == {(0.5, 4), (0.5, 8)}


@pytest.mark.parametrize("text", ["0.5", ".5", "0.50", "5e-1", " 0.5 "])
def test_a_number_is_a_number_however_it_is_written(recipe: Recipe, text: str) -> None:
    assert {found[0] for found in asked(recipe, f"s={text}")} == {0.5}


def test_a_value_is_found_by_the_type_that_the_axis_has(recipe: Recipe) -> None:
    for text, value in (("auto", "auto"), ("8", "8"), ("a b", "a b"), ("true", True)):
        assert {found[2] for found in asked(recipe, f"t={text}")} == {value}
    assert {found[1] for found in asked(recipe, "r=8")} == {8}
    assert {found["t"] for found in chosen(recipe, {"t": (True, "8")})} == {True, "8"}


def test_in_python_one_value_needs_no_list(recipe: Recipe) -> None:
    assert chosen(recipe, {"t": "auto", "r": 8}) == chosen(recipe, {"t": ["auto"], "r": {8}})


def test_a_value_may_hold_an_equals_sign() -> None:
    found = parse("{lorapipe: 1, matrix: {v: [a=b, c]}, steps: {a: {load: $(v)}}}")
    assert asked(found, "v=a=b") == [("a=b",)]
    assert parse_only(["v=a=b"]) == {"v": (Setting("a=b"),)}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["r"], "error: --only takes axis=value, not 'r' - such as --only rank=8"),
        (["=8"], "error: --only takes axis=value, not '=8' - such as --only rank=8"),
        (["q=8"], "r.yaml: error: no axis 'q' - the axes are s, r, t"),
        (["seed=8"], "r.yaml: error: no axis 'seed' - it is a param: --set seed=VALUE"),
        (["r=16"], "r.yaml: error: 'r' is never 16 - 'r' has 8, 4"),
        (["r=x"], "r.yaml: error: 'r' is never x - 'r' has 4, 8"),
        (["r="], "r.yaml: error: 'r' is never nothing - 'r' has 4, 8"),
        (["t=auot"], "r.yaml: error: 't' is never auot - did you mean 'auto'?"),
        (["r=8", "s=1"], "r.yaml: error: no variant has r 8 and s 1.0 - with the others 's' is 0.5"),
        (["r=012"], "r.yaml: error: 'r' is never 012 - 'r' has 4, 8"),
    ],
)
def test_what_the_matrix_has_not_is_said_with_what_is_nearest(
    recipe: Recipe, arguments: list[str], error: str
) -> None:
    with pytest.raises(UsageError) as caught:
        asked(recipe, *arguments)
    assert str(caught.value) == error
    assert caught.value.exit_status == 2


def test_without_a_matrix_there_is_nothing_to_choose() -> None:
    with pytest.raises(UsageError) as caught:
        asked(parse("{lorapipe: 1, steps: {a: {load: f}}}", "r.yaml"), "r=8")
    assert str(caught.value) == "r.yaml: error: no axis 'r' - the recipe has no matrix: it is made once"


def test_a_step_is_left_out_when_no_variant_that_is_wanted_has_it(recipe: Recipe) -> None:
    assert left_out(recipe, {}) == frozenset()
    assert left_out(recipe, {"r": (8,)}) == {"b[s=1.0]", "c[s=1.0,r=4]", "c[s=0.5,r=4]"}
    out = left_out(recipe, {"s": (1.0,), "t": ("auto",)})
    assert out == {"b[s=0.5]", "c[s=0.5,r=4]", "c[s=0.5,r=8]", "d[t=8]", 'd[t="a b"]', "d[t=true]"}


def test_a_narrowed_recipe_has_the_wanted_variants_alone(recipe: Recipe) -> None:
    assert narrowed(recipe, {}) is recipe
    found = narrowed(recipe, {"s": (1.0,), "t": ("auto",)})
    assert set(found.steps) == {"a", "b[s=1.0]", "c[s=1.0,r=4]", "d[t=auto]"}
    assert [dict(variant) for variant in found.variants] == [{"s": 1.0, "r": 4, "t": "auto"}]


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("a", ["a"]),
        ("c", ["c[s=0.5,r=4]", "c[s=0.5,r=8]", "c[s=1.0,r=4]"]),
        ("c[s=0.5,r=8]", ["c[s=0.5,r=8]"]),
        ("c[r=4]", ["c[s=0.5,r=4]", "c[s=1.0,r=4]"]),
        ("c[r=8,s=0.5]", ["c[s=0.5,r=8]"]),
        ('d[t="a b"]', ['d[t="a b"]']),
    ],
)
def test_a_name_stands_for_the_variants_that_have_its_values(
    recipe: Recipe, name: str, steps: list[str]
) -> None:
    assert list(named_steps(recipe, name)) == steps


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("x", "the recipe has no step 'x' - the steps are a, b, c, d"),
        ("c[r=9]", "the recipe has no step 'c[r=9]' - its variants are c[s=0.5,r=4], ..."),
        ("a[r=8]", "the recipe has no step 'a[r=8]' - the steps are a, b, c, d"),
        ("c[", "the recipe has no step 'c[' - its variants are c[s=0.5,r=4], ..."),
        ("cc", "the recipe has no step 'cc' - did you mean 'c'?"),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused(recipe: Recipe, name: str, error: str) -> None:
    with pytest.raises(UsageError) as caught:
        named_steps(recipe, name)
    assert str(caught.value) == f"error: {error}"
