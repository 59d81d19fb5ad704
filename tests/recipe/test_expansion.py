"""Steps in the variants that they have."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.recipe.draft import flow
from lorapipe.recipe.expansion import variant_id
from lorapipe.recipe.holes import Value
from lorapipe.recipe.model import Recipe
from lorapipe.recipe.parsing import parse

from .complaints import complaints
from .test_matrix import SWEEP


def recipe_of(matrix: str, steps: str) -> Recipe:
    return parse(f"lorapipe: 1\nmatrix: {matrix}\nsteps:\n  a: {{load: f}}\n{steps}")


def said_of(matrix: str, steps: str) -> list[str]:
    """Its steps begin in line 5."""
    return complaints(f"lorapipe: 1\nmatrix: {matrix}\nsteps:\n  a: {{load: f}}\n{steps}")


def test_a_step_stands_once_for_each_combination_of_the_axes_that_it_depends_on() -> None:
    recipe = parse(SWEEP)
    assert [name for name in recipe.steps if name.startswith(("a", "both", "lora"))] == [
        "a",
        "both[strength=0.4]",
        "lora[strength=0.4,rank=4]",
        "lora[strength=0.4,rank=8]",
        "both[strength=0.8]",
        "lora[strength=0.8,rank=4]",
        "lora[strength=0.8,rank=8]",
        "lora[strength=0.8,rank=16]",
        "both[strength=1.2]",
        "lora[strength=1.2,rank=64]",
    ]
    small = recipe.steps["small[strength=0.8,rank=16]"]
    assert (small.written, dict(small.axes)) == ("small", {"strength": 0.8, "rank": 16})
    assert small.params == {"rank": 16}
    assert [term.step for term in small.terms()] == ["both[strength=0.8]"]
    assert recipe.steps["both[strength=0.8]"].inputs["concat"][0].weight == 0.8


def test_the_steps_of_a_variant_stand_together_so_that_variants_end_one_by_one() -> None:
    recipe = recipe_of(
        "{r: [1, 2]}",
        "  b: {svd-resize: a, rank: $(r)}\n  c: {save: b, to: $(r).pt}\n  d: {shuffle: a}\n",
    )
    assert list(recipe.steps) == ["a", "b[r=1]", "c[r=1]", "d", "b[r=2]", "c[r=2]"]


def test_the_order_of_a_recipe_without_a_matrix_is_that_of_the_text() -> None:
    assert list(recipe_of("{r: [1]}", "  z: {shuffle: q}\n  q: {scale: a, by: $(r)}\n").steps) == [
        "a",
        "z[r=1]",
        "q[r=1]",
    ]
    assert list(parse("{lorapipe: 1, steps: {z: {shuffle: a}, a: {load: f}}}").steps) == ["z", "a"]


def test_a_check_depends_on_all_that_it_takes() -> None:
    recipe = recipe_of(
        "{r: [1, 2], e: [0.5, 0.75]}",
        "  b: {svd-resize: a, rank: $(r)}\n  c: {check: a, energy: {of: b, min: $(e)}}\n  d: {check: b, finite: true}\n",
    )
    assert [name for name in recipe.steps if name[0] in "cd"] == [
        "c[r=1,e=0.5]",
        "d[r=1]",
        "c[r=1,e=0.75]",
        "c[r=2,e=0.5]",
        "d[r=2]",
        "c[r=2,e=0.75]",
    ]
    assert [t.step for t in recipe.steps["c[r=2,e=0.5]"].inputs["energy.of"]] == ["b[r=2]"]


def test_a_hole_may_choose_the_step_that_is_taken() -> None:
    recipe = recipe_of(
        "{from: [a, b, c], r: [1, 2]}",
        "  b: {shuffle: a}\n  c: {svd-resize: a, rank: $(r)}\n  d: {save: $(from), to: $(from)-$(r).pt}\n",
    )
    taken = {name: step.inputs["save"][0].step for name, step in recipe.steps.items() if step.written == "d"}
    assert taken == {
        "d[from=a,r=1]": "a",
        "d[from=a,r=2]": "a",
        "d[from=b,r=1]": "b",
        "d[from=b,r=2]": "b",
        "d[from=c,r=1]": "c[r=1]",
        "d[from=c,r=2]": "c[r=2]",
    }


def test_a_file_may_be_an_axis() -> None:
    recipe = recipe_of("{file: [x.pt, y z.pt]}", "  b: {load: $(file)}\n")
    assert {name: step.params.get("load") for name, step in recipe.steps.items()} == {
        "a": "f",
        "b[file=x.pt]": "x.pt",
        'b[file="y z.pt"]': "y z.pt",
    }


@pytest.mark.parametrize(
    ("text", "label"),
    [("8", "8"), ("loras/a.pt", "loras/a.pt"), ("a b", '"a b"'), ("a,b=c]", '"a,b=c]"'), ('"', '"\\""'), ("", '""'), ("café", "café"), ("é é", '"é é"'), ("a\u202eb", '"a\\u202eb"')],
)  # fmt: skip
def test_an_id_can_be_read_back(text: str, label: str) -> None:
    assert variant_id("x", {"v": Value(text, text)}) == f"x[v={label}]"


@given(st.lists(st.text(max_size=6), min_size=1, max_size=6, unique=True))
@settings(max_examples=60)
def test_no_two_values_have_one_id(texts: list[str]) -> None:
    ids = {variant_id("x", {"v": Value(text, text), "w": Value("1", "1")}) for text in texts}
    assert len(ids) == len(texts)


def test_a_value_is_typed_as_a_param_is() -> None:
    recipe = recipe_of(
        "{n: [4.0], t: ['8'], b: [true]}",
        "  b: {svd-resize: a, rank: $(n)}\n  c: {save: b, to: x-$(n)-$(t).pt, dense: $(b)}\n",
    )
    assert recipe.steps["b[n=4.0]"].params == {"rank": 4}
    step = recipe.steps["c[n=4.0,t=8,b=true]"]
    assert (step.params["to"], step.params["dense"]) == ("x-4.0-8.pt", True)
    assert said_of("{t: ['8']}", "  b: {svd-resize: a, rank: $(t)}\n") == [
        "r.yaml:5:28: error: 'rank' takes a whole number from 1, or $(name) - $(t) is '8'"
    ]


def test_every_value_is_tried_and_the_error_stands_at_the_hole() -> None:
    resize = "  b: {svd-resize: a, rank: $(r)}\n"
    rank = "r.yaml:5:28: error: 'rank' takes a whole number from 1, or $(name)"
    assert said_of("{r: [4, four]}", resize) == [f"{rank} - $(r) is 'four'"]
    assert said_of("{r: [four, 0]}", resize) == [f"{rank} - $(r) is 'four'; $(r) is 0"]
    assert said_of("{r: [a, b, c, d, e]}", resize) == [
        f"{rank} - $(r) is 'a'; $(r) is 'b'; $(r) is 'c'; and 2 more"
    ]
    assert said_of("{r: [4], include: [{r: x}]}", resize) == [f"{rank} - $(r) is 'x'"]


def test_a_value_that_is_excluded_is_not_tried() -> None:
    assert said_of("{r: [4, x], exclude: [{r: x}]}", "  b: {svd-resize: a, rank: $(r)}\n") == []


def test_a_mistake_that_has_nothing_to_do_with_the_values_is_said_once() -> None:
    assert said_of("{r: [1, 2, 3]}", "  b: {svd-resize: q, rnak: $(r), alpha: true}\n") == [
        "r.yaml:5:19: error: no step 'q'",
        "r.yaml:5:22: error: svd-resize has no option 'rnak' - did you mean 'rank'?",
        "r.yaml:5:34: error: svd-resize has no option 'alpha' - 'alpha' is an option of load, dylora-slice",
    ]


def test_a_text_that_is_wrong_with_every_value_is_said_with_the_first() -> None:
    assert said_of("{r: [1, 2, 3]}", "  b: {save: a, to: out-$(r).txt}\n") == [
        (
            "r.yaml:5:24: error: an output file ends in .safetensors, .ckpt, .pt or .bin, a folder in /,"
            " not 'out-1.txt' - $(r) is 1; and 2 more like it"
        )
    ]


def test_what_is_wrong_with_an_axis_hides_nothing_else() -> None:
    assert said_of("{r: [], s: [1, x]}", "  b: {svd-resize: q, rank: $(r)}\n  c: {scale: b, by: $(s)}\n") == [
        "r.yaml:2:13: error: 'r' takes at least one, not an empty list",
        "r.yaml:5:19: error: no step 'q'",
        "r.yaml:6:21: error: 'by' takes a number, or $(name) - $(s) is 'x'",
    ]


def test_an_unknown_name_is_compared_with_axes_and_params() -> None:
    assert said_of(
        "{strength: [1]}", "  b: {scale: a, by: $(strenth)}\n  c: {scale: a, by: $(strength)}\n"
    ) == ["r.yaml:5:21: error: no param 'strenth' - did you mean 'strength'?"]


def test_steps_that_go_in_a_circle_with_any_value_are_refused() -> None:
    steps = "  b: {shuffle: $(of)}\n  c: {shuffle: b}\n"
    assert said_of("{of: [a, c]}", steps) == [
        "r.yaml:5:16: error: the steps go in a circle: b -> c -> b - a step can only use what is made without it"
    ]


def test_too_many_steps_are_refused_before_they_are_made() -> None:
    steps = "".join(f"  b{n}: {{scale: a, by: $(p), description: $(q)}}\n" for n in range(6))
    axes = f"p: {list(range(64))}, q: [{', '.join(f'q{n}' for n in range(64))}]"
    started = time.process_time()
    assert said_of(f"{{{axes}}}", steps) == [
        (
            "r.yaml:2:1: error: the matrix makes 24577 steps: at most 20000 are taken"
            " - name fewer values, or write several recipes"
        )
    ]
    chain = "".join(f"  c{n}: {{shuffle: {f'c{n - 1}' if n else 'b'}}}\n" for n in range(200))
    inherited = f"  b: {{scale: a, by: $(p), description: $(q)}}\n{chain}"
    assert said_of(f"{{{axes}}}", inherited) == [
        (
            "r.yaml:2:1: error: the matrix makes 823297 steps: at most 20000 are taken"
            " - name fewer values, or write several recipes"
        )
    ]
    assert time.process_time() - started < 4


def test_large_steps_are_refused_before_they_are_made() -> None:
    terms = ", ".join(f"a{n}: 1" for n in range(2000))
    started = time.process_time()
    (error,) = said_of(f"{{p: {list(range(1000))}}}", f"  b: {{concat: {{{terms}}}, description: x$(p)}}\n")
    assert error.startswith("r.yaml:2:1: error: the matrix makes 4005000 values: at most 240000 are taken")
    assert time.process_time() - started < 2


def test_long_values_in_many_places_are_refused_before_they_are_inserted() -> None:
    values = ", ".join(f"{n}{'x' * 250}" for n in range(100))
    holes = "".join(f"  b{n}: {{shuffle: a, description: '{'$(v)' * 90}'}}\n" for n in range(50))
    started = time.process_time()
    (error,) = said_of(f"{{v: [{values}]}}", holes)
    assert "what $(name) inserts is longer than 1048576 characters in all" in error
    assert time.process_time() - started < 2


def test_five_hundred_variants_are_read_in_a_second() -> None:
    ranks, strengths = list(range(1, 21)), [n / 100 for n in range(1, 26)]
    text = SWEEP.replace("[4, 8, 16]", str(ranks)).replace("[0.4, 0.8]", str(strengths))
    started = time.process_time()
    recipe = parse(text.replace("  exclude: [{strength: 0.4, rank: 16}]\n", ""))
    assert (len(recipe.variants), len(recipe.steps)) == (501, 2 + 26 + 501 + 501)
    assert time.process_time() - started < 1


@given(source=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_a_variant_is_the_recipe_with_its_values_as_params(source: random.Random) -> None:
    """The one law of a matrix: what is in a variant is what the recipe would be without it.

    Over random graphs: each step of every variant has the params, and by its inputs the ancestors,
    of the step that the same text has where the axes are params.
    """
    steps = "".join(_step(n, source) for n in range(6))
    matrix = "{p: [1, 2], q: [3, 4, 5], exclude: [{p: 2, q: 3}], include: [{p: 9, q: 9}]}"
    text = "lorapipe: 1\n{head}\nsteps:\n  s0: {{load: f}}\n{steps}  t: {{shuffle: s6, description: $(p) $(q)}}\n"
    swept = parse(text.format(head=f"matrix: {matrix}", steps=steps))
    for variant in swept.variants:
        plain = parse(text.format(head=f"params: {flow(dict(variant))}", steps=steps))
        for name in plain.steps:
            (found,) = (
                step.id
                for step in swept.steps.values()
                if step.written == name and step.axes.items() <= variant.items()
            )
            assert _tree(swept, found) == _tree(plain, name)


def _step(n: int, source: random.Random) -> str:
    above = [f"s{source.randint(0, n)}" for _ in range(2)]
    by = source.choice(["$(p)", "$(q)", "1.5", "2"])
    if source.random() < 0.5:
        return f"  s{n + 1}: {{scale: {above[0]}, by: {by}}}\n"
    terms = dict(zip(above, [by, "$(p)"], strict=True))
    return f"  s{n + 1}: {{concat: {{{', '.join(f'{name}: {weight}' for name, weight in terms.items())}}}}}\n"


def _tree(recipe: Recipe, name: str) -> object:
    step = recipe.steps[name]
    inputs = [(term.weight, _tree(recipe, term.step)) for term in step.terms()]
    return step.written, step.kind, dict(step.params), step.description, inputs
