"""Differences as text and as JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from rich.console import Console

from lorapipe.build.looking.diffing import WeightsDiff
from lorapipe.build.looking.recipe_diffing import DiffedRecipes
from lorapipe.plan.recipes import diff_recipes
from lorapipe.recipe.parsing import parse
from lorapipe.recipe.schemas import schema_file
from lorapipe.views.diff import percent, print_recipes_diff, print_weights_diff
from lorapipe.views.diff_json import recipes_diff_json, weights_diff_json
from lorapipe.weights.distances import Distance

from .screens import HOSTILE, log, steering, terminal, text_of

A, B = Path("a.safetensors"), Path("b.safetensors")
MOVED = WeightsDiff(
    "lora",
    A,
    B,
    distances={"x": Distance(3.0, 3.0, 0.0), "y": Distance(4.0, 4.0, 2.0), "z": Distance(0.0, 1.0, 1.0)},
    blocks={("unet", "IN01"): ("x", "y"), ("", ""): ("z",)},
    added=("z",),
    altered={"rank 4 -> 8": 2},
    metadata={"ss_steps": "1 -> 2"},
)


def drawn(diff: WeightsDiff, console: Console, *, modules: bool = False) -> str:
    print_weights_diff(diff, console, modules=modules)
    return text_of(console)


def valid(told: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(told, allow_nan=False))
    Draft7Validator(json.loads(schema_file("diff.v1.schema.json").read_text())).validate(read)
    return read


def test_the_schema_is_a_schema() -> None:
    Draft7Validator.check_schema(json.loads(schema_file("diff.v1.schema.json").read_text()))


def test_weights_are_this_text() -> None:
    assert (
        drawn(MOVED, log(), modules=True)
        == """\
added: 1 module: z
rank 4 -> 8: 2 modules
metadata: ss_steps 1 -> 2
model  block      modules  norm  new norm  change  cosine
unet   IN01       2        5     5         40 %    0.9200
       elsewhere  1        0     1         new
all               3        5     5.099     44.7 %  0.9021

module  norm  new norm  change  cosine
z       0     1         new
y       4     4         50 %    0.8750
"""
    )


@pytest.mark.parametrize(
    ("diff", "text"),
    [
        (WeightsDiff("lora", A, B, "ab" * 32), f"the same file: sha256 {'ab' * 32}\n"),
        (WeightsDiff("lora", A, B, distances={"x": Distance(1.0, 1.0)}), "no difference\n"),
        (
            WeightsDiff("checkpoint", A, B, altered={"dtype F16 -> F32": 1}),
            "dtype F16 -> F32: 1 tensor\nthe same numbers in every tensor\n",
        ),
    ],
)
def test_what_is_the_same_is_said_to_be(diff: WeightsDiff, text: str) -> None:
    assert drawn(diff, log()) == text
    assert valid(weights_diff_json(diff))["same_numbers"]


def test_many_names_are_counted() -> None:
    diff = WeightsDiff("checkpoint", A, B, removed=tuple(f"n{n}" for n in range(100)))
    assert drawn(diff, log()).startswith("removed: 100 tensors: n0, n1, n2, n3, n4, n5, and 94 more\n")
    assert len(valid(weights_diff_json(diff))["removed"]) == 100


def test_the_json_of_weights() -> None:
    told = valid(weights_diff_json(MOVED, modules=True))
    assert told["differs"]
    assert told["blocks"][0] == {
        "component": "unet",
        "block": "IN01",
        "weights": 2,
        "old_norm": 5.0,
        "new_norm": 5.0,
        "apart": 2.0,
        "relative": 0.4,
        "cosine": pytest.approx(0.92),
    }
    assert (told["blocks"][1]["relative"], told["blocks"][1]["cosine"]) == (None, None)
    assert [weight["name"] for weight in told["weights"]] == ["x", "y", "z"]
    odd = WeightsDiff("checkpoint", A, B, distances={"x": Distance(1.0, math.inf, math.inf)})
    assert valid(weights_diff_json(odd))["total"]["apart"] is None


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (1.0, "100 %"), (0.00012345, "0.0123 %"), (12.0, "1.2e+03 %"), (math.inf, "new")],
)
def test_a_share_in_percent(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("width", [20, 80])
def test_hostile_names_are_shown_and_not_obeyed(name: str, width: int) -> None:
    diff = WeightsDiff(
        "lora",
        A,
        B,
        distances={name: Distance(1.0, 2.0, 1.0)},
        blocks={(name, name): (name,)},
        added=(name,),
        unequal=(name,),
        metadata={name: name},
        altered={name: 1},
    )
    for console in (log(), terminal(width)):
        assert not steering(drawn(diff, console, modules=True))
    valid(weights_diff_json(diff, modules=True))


RECIPE = """\
lorapipe: 1
steps:
  a: {load: a.safetensors}
  s: {scale: a, by: 2}
  o: {save: s, to: x.safetensors}
"""


def recipes(
    new: str, keys: tuple[dict[str, str | None], dict[str, str | None]] = ({}, {}), *why: str
) -> DiffedRecipes:
    old, newer = parse(RECIPE, "old.yaml"), parse(new, "new.yaml")
    return DiffedRecipes(old, newer, diff_recipes(old, newer, lambda recipe, step: None), keys, why)


def said(found: DiffedRecipes, console: Console) -> str:
    print_recipes_diff(found, console)
    return text_of(console)


def test_recipes_are_this_text() -> None:
    new = RECIPE.replace("by: 2", "by: 3").replace("x.safe", "y.safe") + "  p: {save: a, to: z.safetensors}\n"
    found = recipes(new, ({"o": "a" * 64}, {"o": "b" * 64, "p": None}))
    assert (
        said(found, log())
        == """\
added: step p: save z.safetensors
step s: by 2.0 -> 3.0
step o: to x.safetensors -> y.safetensors (changes no byte)
output                          key           new key       bytes
x.safetensors -> y.safetensors  aaaaaaaaaaaa  bbbbbbbbbbbb  other
z.safetensors                                               added
"""
    )
    told = valid(recipes_diff_json(found))
    assert told["steps"] == {"s": ["by 2.0 -> 3.0"]}
    assert told["outputs"] == [
        {"step": "o", "old_step": "o", "old_key": "a" * 64, "key": "b" * 64},
        {"step": "p", "old_step": None, "old_key": None, "key": None},
    ]


def test_recipes_of_one_meaning_say_so() -> None:
    found = recipes("# hello\n" + RECIPE, ({"o": "a" * 64}, {"o": "a" * 64}))
    assert said(found, log()) == "no difference in meaning: both build the same\n"
    assert not valid(recipes_diff_json(found))["differs"]


def test_keys_that_stay_that_are_not_known_and_that_are_gone() -> None:
    moved = RECIPE.replace("x.safe", "y.safe")
    assert "  same\n" in said(recipes(moved, ({"o": "a" * 64}, {"o": "a" * 64})), log())
    unread = said(recipes(moved, ({"o": None}, {"o": None})), log())
    assert "not known before the inputs are hashed: --hash\n" in unread
    gone = "lorapipe: 1\nsteps:\n  a: {load: a.safetensors}\n  c: {check: a, finite: true}\n"
    assert "x.safetensors  aaaaaaaaaaaa           removed\n" in said(
        recipes(gone, ({"o": "a" * 64}, {})), log()
    )
    why = recipes(moved, ({}, {}), "no file 'a.safetensors'")
    assert said(why, log()).endswith("keys are not known: no file 'a.safetensors'\n")
