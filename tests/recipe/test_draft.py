"""Recipes as text: what is written is read back, and reads as a person writes it."""

from __future__ import annotations

import math
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.recipe.draft import Draft, flow, literal, render, step_id
from lorapipe.recipe.language import RESERVED
from lorapipe.recipe.model import JSON
from lorapipe.recipe.parsing import parse

# The language has no control characters, and files with surrogates in their names get the replacement.
WORDS = st.text(st.characters(exclude_categories=["Cc"]))
SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | WORDS
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
)


def read_back(value: object) -> object:
    """A value through the recipe language: ``x-`` keys hold anything."""
    text = f"lorapipe: 1\nx-value: {flow(value)}\nsteps:\n  a: {{load: a.safetensors}}\n"  # type: ignore[arg-type]
    return parse(text).extensions["x-value"]


def without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value


@settings(max_examples=300)
@given(TREES.filter(lambda value: "inf" not in repr(value)))
def test_every_value_is_read_back_as_it_was_type_and_all(value: object) -> None:
    assert repr(read_back(value)) == repr(without_surrogates(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("loras/char v2.safetensors", "loras/char v2.safetensors"),
        ("../models/base.safetensors", "../models/base.safetensors"),
        ("no", "no"),
        ("true", '"true"'),
        ("1e-4", '"1e-4"'),
        ("012", '"012"'),
        ("", '""'),
        ("a: b", '"a: b"'),
        ("C:/models/a.safetensors", '"C:/models/a.safetensors"'),
        ("a, b", '"a, b"'),
        ("$(strength)", "$(strength)"),
        (0.5, "0.5"),
        (1e-07, "1e-07"),
        (True, "true"),
        ({"char": 0.7, "style": -0.4}, "{char: 0.7, style: -0.4}"),
        (["IN04", 3], "[IN04, 3]"),
    ],
)
def test_quotes_stand_only_where_they_are_due(value: object, text: str) -> None:
    assert flow(value) == text  # type: ignore[arg-type]
    assert read_back(value) == value


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_that_the_language_cannot_say_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        flow({"by": value})


def test_a_draft_reads_as_a_person_writes_a_recipe() -> None:
    draft = Draft(
        {
            "char": {"load": "loras/char.safetensors"},
            "both": {"concat": {"char": 0.7, "style": -0.4}},
            "out": {"save": "both", "to": "x" * 90 + ".safetensors", "dtype": "fp16"},
        },
        name="char-minus-style",
        defaults={"device": "cuda"},
        head=["Made from a command line:", "", "  merge_lora.py --ratios 0.7\x1b[31m"],
        remarks={"both": ["The exact sum."]},
    )
    assert render(draft) == (
        "# Made from a command line:\n#\n#   merge_lora.py --ratios 0.7\ufffd[31m\n"
        "lorapipe: 1\nname: char-minus-style\ndefaults: {device: cuda}\n\nsteps:\n"
        "  char: {load: loras/char.safetensors}\n\n"
        "  # The exact sum.\n"
        "  both: {concat: {char: 0.7, style: -0.4}}\n"
        f"  out:\n    save: both\n    to: {'x' * 90}.safetensors\n    dtype: fp16\n"
    )


@given(st.lists(st.text(), max_size=4))
def test_no_comment_can_become_anything_else(comments: list[str]) -> None:
    draft = Draft({"a": {"load": "a.safetensors"}}, head=comments, remarks={"a": comments})
    assert list(parse(render(draft)).steps) == ["a"]


def test_a_hole_in_a_name_is_no_hole() -> None:
    text = render(Draft({"a": {"load": literal("a$(b)c.safetensors")}}))
    assert parse(text).steps["a"].params["load"] == "a$(b)c.safetensors"


@given(st.lists(st.text(string.printable), max_size=6))
def test_ids_made_of_names_are_valid_and_differ(names: list[str]) -> None:
    taken: set[str] = set()
    for name in names:
        taken.add(step_id(name, taken))
    assert len(taken) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_-]*", step) for step in taken)


@pytest.mark.parametrize(
    ("name", "step"),
    [("Café Style (v2)", "caf-style-v2"), ("42", "lora-42"), ("___", "lora"), ("", "lora"), ("_a_", "a")],
)
def test_ids_keep_what_can_be_kept(name: str, step: str) -> None:
    assert step_id(name) == step


@pytest.mark.parametrize("name", [*RESERVED, "load", "true", "null"])
def test_words_of_the_language_can_be_ids(name: str) -> None:
    step = step_id(name)
    text = render(Draft({step: {"load": "a.safetensors"}, "x": {"scale": step, "by": 2.0}}))
    assert parse(text).steps["x"].inputs["scale"][0].step == step


def test_a_matrix_is_an_axis_a_line_and_is_read_back() -> None:
    axes: dict[str, JSON] = {
        "strength": [0.4, 1.0],
        "name": ["a b", "8", "no"],
        "exclude": [{"strength": 0.4, "name": "8"}],
    }
    steps = {"a": {"load": "a.pt", "description": "at $(strength)"}, "b": {"load": "$(name)"}}
    text = render(Draft(steps, matrix=axes))
    assert text.startswith(
        'lorapipe: 1\nmatrix:\n  strength: [0.4, 1.0]\n  name: [a b, "8", no]\n'
        '  exclude: [{strength: 0.4, name: "8"}]\n\nsteps:\n'
    )
    recipe = parse(text)
    assert (len(recipe.variants), recipe.matrix["name"]) == (5, ("a b", "8", "no"))
