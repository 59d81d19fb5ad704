"""A recipe with a matrix: its axes, and the combinations of their values."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from lorapipe.errors import LorapipeError
from lorapipe.recipe.draft import flow
from lorapipe.recipe.language import core_language
from lorapipe.recipe.matrix import MAX_AXES, MAX_VARIANTS, near
from lorapipe.recipe.model import Recipe
from lorapipe.recipe.parsing import parse
from lorapipe.recipe.schemas import bundle

from .complaints import complaints

SWEEP = """\
lorapipe: 1
matrix:
  strength: [0.4, 0.8]
  rank: [4, 8, 16]
  exclude: [{strength: 0.4, rank: 16}]
  include: [{strength: 1.2, rank: 64}]
steps:
  a: {load: a.safetensors}
  b: {load: b.safetensors}
  both: {concat: {a: $(strength), b: -1.0}}
  small: {svd-resize: both, rank: $(rank)}
  lora: {save: small, to: out/$(strength)-$(rank).safetensors}
"""


def of_matrix(matrix: str, params: str = "{}") -> list[str]:
    """What is said of a matrix in the third line, whose axes ``s`` and ``r`` steps use."""
    text = (
        f"lorapipe: 1\nparams: {params}\nmatrix: {matrix}\nsteps:\n  a: {{load: f}}\n"
        "  b: {scale: a, by: $(s)}\n  c: {shuffle: b, description: 'with $(r)'}\n"
    )
    return complaints(text)


def variants(matrix: Any, **params: Any) -> list[tuple[Any, ...]]:
    return [tuple(variant.values()) for variant in recipe_of(matrix, **params).variants]


def recipe_of(matrix: Any, **params: Any) -> Recipe:
    """A recipe with that matrix, in which a step uses each axis."""
    axes = [axis for axis in matrix if axis not in ("exclude", "include")]
    steps = ", ".join(f"s-{axis}: {{shuffle: a, description: 'with $({axis})'}}" for axis in axes)
    head = f"lorapipe: 1, params: {flow(params)}" if params else "lorapipe: 1"
    return parse(f"{{{head}, matrix: {flow(matrix)}, steps: {{a: {{load: f}}, {steps}}}}}")


def test_every_value_goes_with_every_other_but_what_is_excluded_and_with_what_is_included() -> None:
    recipe = parse(SWEEP)
    assert [tuple(variant.values()) for variant in recipe.variants] == [
        (0.4, 4),
        (0.4, 8),
        (0.8, 4),
        (0.8, 8),
        (0.8, 16),
        (1.2, 64),
    ]
    assert recipe.matrix == {"strength": (0.4, 0.8, 1.2), "rank": (4, 8, 16, 64)}


def test_a_recipe_without_a_matrix_has_no_axes_and_no_variants() -> None:
    recipe = parse("{lorapipe: 1, steps: {a: {load: f}}}")
    assert (recipe.matrix, recipe.variants) == ({}, ())
    assert (recipe.steps["a"].written, recipe.steps["a"].axes) == ("a", {})


def test_values_are_numbers_text_and_truth() -> None:
    assert variants({"v": [1, 2.5, -0.0, True, "true-ish", "a b", "no"]}) == [
        (1,),
        (2.5,),
        (0.0,),
        (True,),
        ("true-ish",),
        ("a b",),
        ("no",),
    ]


def test_one_and_true_are_two_values() -> None:
    assert variants({"v": [1, True]}) == [(1,), (True,)]


def test_an_exclude_leaves_out_all_that_have_its_values() -> None:
    assert variants({"r": [1, 2], "s": [3, 4], "exclude": [{"r": 1}]}) == [(2, 3), (2, 4)]
    assert variants({"r": [1, 2], "s": [3, 4], "exclude": [{"s": 3.0, "r": 2}]}) == [(1, 3), (1, 4), (2, 4)]


def test_what_is_excluded_may_be_included() -> None:
    matrix = {"r": [1, 2], "s": [3, 4], "exclude": [{"r": 1}], "include": [{"r": 1, "s": 4}]}
    assert variants(matrix) == [(2, 3), (2, 4), (1, 4)]


def test_a_value_that_does_not_occur_is_none_of_the_axis() -> None:
    """What ``--only`` offers, and a table has a row for."""
    recipe = recipe_of({"r": [1, 2, 3], "s": [4, 5], "exclude": [{"r": 1, "s": 4}, {"r": 2}]})
    assert recipe.matrix == {"r": (1, 3), "s": (4, 5)}


def test_an_included_value_is_the_axis_own_where_the_two_are_one() -> None:
    recipe = recipe_of({"r": [8], "s": [1, 2], "exclude": [{"s": 2}], "include": [{"r": 8.0, "s": 2}]})
    assert list(recipe.steps) == ["a", "s-r[r=8]", "s-s[s=1]", "s-s[s=2]"]


SCALARS = st.one_of(
    st.integers(-3, 3), st.sampled_from([0.5, 1.5, -2.25]), st.booleans(), st.sampled_from(["a", "b", "c"])
)


def mark(value: Any) -> tuple[bool, Any]:
    return isinstance(value, bool), value


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_variants_are_the_product_less_and_more(data: st.DataObject) -> None:
    """Held against a loop over all combinations."""
    axes = {
        axis: data.draw(st.lists(SCALARS, min_size=1, max_size=4, unique_by=mark), label=axis)
        for axis in data.draw(st.lists(st.sampled_from("pqrs"), min_size=1, max_size=3, unique=True))
    }
    rules = [
        {axis: data.draw(st.sampled_from(axes[axis])) for axis in some}
        for some in data.draw(
            st.lists(st.lists(st.sampled_from(list(axes)), min_size=1, unique=True), max_size=3)
        )
    ]
    left = [
        one
        for one in itertools.product(*axes.values())
        if not any(
            all(mark(dict(zip(axes, one, strict=True))[axis]) == mark(value) for axis, value in rule.items())
            for rule in rules
        )
    ]
    more = ("new", *[values[0] for values in list(axes.values())[1:]])
    matrix = {**axes, "exclude": rules, "include": [dict(zip(axes, more, strict=True))]}
    found = variants({key: value for key, value in matrix.items() if value})
    assert [tuple(map(mark, one)) for one in found] == [tuple(map(mark, one)) for one in [*left, more]]


def test_values_are_taken_from_params() -> None:
    matrix = {
        "rank": ["$(base)", 64],
        "name": ["r-$(base)", "x"],
        "exclude": [{"rank": "$(base)", "name": "x"}],
    }
    assert variants(matrix, base=16) == [(16, "r-16"), (64, "r-16"), (64, "x")]
    recipe = parse(
        "{lorapipe: 1, params: {base: 16}, matrix: {rank: [$(base), 64]},"
        " steps: {a: {load: f}, b: {svd-resize: a, rank: $(rank)}}}",
        params={"base": 8},
    )
    assert recipe.steps["b[rank=8]"].params == {"rank": 8}


@pytest.mark.parametrize(
    ("matrix", "errors"),
    [
        ("", ["3:8: error: 'matrix' takes a map axis: list of values, not nothing"]),
        ("{}", ["3:9: error: 'matrix' takes a map axis: list of values, not an empty map"]),
        ("[1, 2]", ["3:9: error: 'matrix' takes a map axis: list of values, not a list"]),
        ("{exclude: [{s: 1}]}", ["3:1: error: a matrix needs an axis - such as strength: [0.5, 1.0]"]),
        ("{s: 1, r: [a]}", ["3:13: error: 's' takes a list, not 1"]),
        ("{s: [], r: [a]}", ["3:13: error: 's' takes at least one, not an empty list"]),
        ("{s: [1, null], r: [a]}", ["3:17: error: 's' takes a number, text or true or false, not null"]),
        ("{s: [1, ], r: [[a], {b: c}]}", ["3:24: error: 'r' takes a number, text or true or false, not a list", "3:29: error: 'r' takes a number, text or true or false, not a map"]),
        ("{s: [.inf, 1], r: [a]}", ["3:14: error: 's' takes a number, text or true or false, not .inf"]),
        ("{s: [1, 2, 1.0], r: [a]}", ["3:20: error: 's' has 1.0 twice - delete one"]),
        ("{s: [1], r: [8, '8']}", ["3:25: error: 'r' has 8 twice, as text and as something else - delete one"]),
        ("{s: [1], r: [a], R: [b]}", ["3:26: error: 'R' cannot be an axis's name - an axis's name is made of a-z, 0-9, - and _, and begins with a letter"]),
        ("{s: [1], r: [a], t: [b, c]}", ["3:26: error: no step has $(t): its variants are one and the same - put $(t) where its values belong, or delete it"]),
        ("{s: [1], r: ['" + 256 * "x" + "']}", ["3:22: error: a value on an axis has at most 255 characters, not 256 - steps can say the part that all values share"]),
        ("{s: [1, 2, 4], r: [a], exclude: [{s: 3}]}", ["3:46: error: 's' is never 3 - 's' has 2, 4, 1"]),
        ("{s: [1], r: [rotate, permute], exclude: [{r: rotat}]}", ["3:54: error: 'r' is never 'rotat' - did you mean 'rotate'?"]),
        ("{s: [1, 2], r: [a], exclude: [{q: 3}]}", ["3:40: error: no axis 'q' - the axes are s, r"]),
        ("{s: [1, 2], rank: [a], r: [b], exclude: [{ranks: a}]}", ["3:21: error: no step has $(rank): its variants are one and the same - put $(rank) where its values belong, or delete it", "3:51: error: no axis 'ranks' - did you mean 'rank'?"]),
        ("{s: [1, 2], r: [a], exclude: [{}, 5]}", ["3:39: error: 'exclude' takes at least one, not an empty map", "3:43: error: 'exclude' takes a map, not 5"]),
        ("{s: [1, 2], r: [a], exclude: {s: 1}}", ["3:38: error: 'exclude' takes a list, not a map"]),
        ("{s: [1, 2], r: [a], exclude: [{s: 1}, {s: 2}]}", ["3:1: error: 'exclude' leaves no combination - exclude fewer"]),
        ("{s: [1, 2], r: [a], include: [{s: 3}]}", ["3:39: error: 'include' lacks r - it gives a value on every axis"]),
        ("{s: [1, 2], r: [a], include: [{s: 2.0, r: a}]}", ["3:39: error: the matrix has this combination already - delete it"]),
        ("{s: [1], r: [a], include: [{s: 2, r: a}, {r: a, s: 2}]}", ["3:50: error: the matrix has this combination already - delete it"]),
        ("{s: [1], r: [a], include: [{s: 2, r: a, t: 1}]}", ["3:49: error: no axis 't' - the axes are s, r"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_matrix_is_said_whole(matrix: str, errors: list[str]) -> None:
    assert of_matrix(matrix) == [f"r.yaml:{error}" for error in errors]


def test_an_axis_is_no_param() -> None:
    assert of_matrix("{s: [1], r: [a]}", "{s: 1}") == [
        "r.yaml:3:10: error: 's' is a param and an axis - give one of the two another name"
    ]


def test_include_and_exclude_may_be_params() -> None:
    assert of_matrix("{s: [$(include)], r: [$(exclude)]}", "{include: 1, exclude: a}") == []


def test_an_axis_has_no_value_outside_of_the_steps() -> None:
    text = (
        "lorapipe: 1\nname: x-$(s)\nmatrix: {s: [1], r: [a, b-$(s)]}\ndefaults: {device: $(r)}\n"
        "steps: {a: {load: f}, b: {scale: a, by: $(s)}, c: {shuffle: a, description: 'with $(r)'}}\n"
    )
    assert complaints(text) == [
        "r.yaml:2:9: error: 's' is an axis of the matrix - steps take $(s): it has another value in each variant",
        "r.yaml:3:27: error: 's' is an axis of the matrix - steps take $(s): it has another value in each variant",
        "r.yaml:4:20: error: 'r' is an axis of the matrix - steps take $(r): it has another value in each variant",
    ]


def test_a_param_without_a_value_is_said_once_and_nothing_else_of_it() -> None:
    assert of_matrix("{s: [$(p)], r: [a]}", "{p: null}") == [
        "r.yaml:2:13: error: param 'p' needs a value - it has no default: --set p=VALUE"
    ]


def test_what_others_call_it_leads_to_matrix() -> None:
    for word in ("sweep", "grid", "strategy", "axes", "foreach"):
        assert complaints(f"lorapipe: 1\n{word}: {{s: [1]}}\nsteps: {{a: {{load: f}}}}") == [
            f"r.yaml:2:1: error: a recipe has no '{word}' - did you mean 'matrix'?"
        ]


def test_set_does_not_reach_an_axis() -> None:
    assert complaints(SWEEP, {"rank": 8, "rnk": 8}) == [
        "r.yaml: error: 'rank' is an axis, no param - --only rank=VALUE takes the variants with it",
        "r.yaml: error: no param 'rnk' - the recipe has no params",
    ]


VALUES = st.one_of(SCALARS, st.sampled_from([None, float("inf"), "$(p)", [], [1], {}, {"p": 1}]))
RULES = st.one_of(VALUES, st.lists(st.one_of(VALUES, st.dictionaries(st.sampled_from("pqrR"), VALUES))))
MATRICES = st.one_of(
    VALUES,
    st.dictionaries(
        st.sampled_from(["p", "q", "r", "R", "a b", "exclude", "include", "Exclude"]),
        st.one_of(VALUES, st.lists(VALUES, max_size=3), RULES),
        max_size=4,
    ),
)
BUNDLE = Draft7Validator(bundle(core_language().files))


@given(MATRICES)
@settings(max_examples=300, deadline=None)
def test_what_an_editor_refuses_of_a_matrix_is_refused_and_the_other_way_round(matrix: Any) -> None:
    """Of what a schema can say: ``bad-value``, ``bad-name``; the rest is ours alone, such as two equal values."""
    assume("inf" not in repr(matrix))  # JSON has none, and so no editor
    recipe = {"lorapipe": 1, "params": {"p": 3}, "matrix": matrix, "steps": {"a": {"load": "f"}}}
    codes = set()
    try:
        parse(json.dumps(recipe))
    except LorapipeError as error:
        codes = {one.code for one in error.parts}
    assert bool(codes & {"bad-value", "bad-name"}) == any(BUNDLE.iter_errors(recipe)), codes


def test_more_combinations_than_anyone_builds_are_refused_at_once() -> None:
    axes = ", ".join(f"a{n}: [{', '.join(map(str, range(10)))}]" for n in range(10))
    started = time.process_time()
    found = of_matrix(f"{{{axes}, s: [1], r: [a]}}".replace("a8:", "x-a8:").replace("a9:", "x-a9:"))
    assert (
        found[0]
        == f"r.yaml:3:1: error: a matrix has at most {MAX_AXES} axes, not 12 - what goes together is one axis"
    )
    found = of_matrix(f"{{{axes}}}".replace("a0:", "s:").replace("a1:", "r:"))
    assert found[0].startswith(
        "r.yaml:3:1: error: the matrix has 10000000000 combinations: at most 4096 are taken"
    )
    assert time.process_time() - started < 1


def test_the_most_variants_are_read_in_seconds() -> None:
    started = time.process_time()
    recipe = recipe_of({"p": list(range(64)), "q": list(range(MAX_VARIANTS // 64))})
    assert len(recipe.variants) == MAX_VARIANTS
    assert time.process_time() - started < 4


def test_a_thousand_rules_are_read_in_seconds() -> None:
    rules = [{"p": p, "q": q} for p in range(32) for q in range(31)]
    started = time.process_time()
    found = variants({"p": list(range(32)), "q": list(range(32)), "exclude": rules})
    assert found == [(p, 31) for p in range(32)]
    assert time.process_time() - started < 4


def test_the_nearest_values_are_named() -> None:
    assert near(9, "rank", [64, 4, 8, 16]) == "'rank' has 8, 4, 16, 64"
    assert near(9, "rank", list(range(100))) == "'rank' has 9, 8, 10, 7, 11, 6, ..."
    assert near("x", "v", [True, 2, "abc"]) == "'v' has true, 2, abc"
