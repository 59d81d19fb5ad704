"""One line as a recipe: every word of it comes to stand where it belongs."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorapipe.drafts import oneliners
from lorapipe.drafts.oneliners import parse_rule, parse_term
from lorapipe.drafts.sheet import Sheet
from lorapipe.errors import UsageError
from lorapipe.recipe.draft import render
from lorapipe.recipe.parsing import parse


@pytest.fixture
def sheet() -> Sheet:
    return Sheet(Path("/r"), Path("/r"))


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors=0.7", ("a.safetensors", 0.7)),
        ("a.safetensors=-4e-1", ("a.safetensors", -0.4)),
        ("a=b.safetensors", ("a=b.safetensors", 1.0)),
        ("a=b.safetensors=2", ("a=b.safetensors", 2.0)),
        ("a.safetensors=", ("a.safetensors=", 1.0)),
    ],
)
def test_a_weight_is_what_stands_behind_the_last_equals_sign(text: str, term: tuple[str, float]) -> None:
    assert parse_term(text) == term


@pytest.mark.parametrize("text", ["=0.7", "a.safetensors=nan", "a.safetensors=inf", "a=-1e999"])
def test_a_weight_without_a_file_or_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_term(text)
    assert (caught.value.code, caught.value.hint) == ("bad-weight", "such as a.safetensors=0.7")


def test_a_rule_is_a_name_and_a_number() -> None:
    assert parse_rule(None) == {}
    assert parse_rule("sv-fro=0.9") == {"dynamic": {"sv-fro": 0.9}}


@pytest.mark.parametrize("text", ["sv-fro", "sv-fro=", "sv-fro=much", "0.9"])
def test_a_rule_without_a_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="takes a rule and a number"):
        parse_rule(text)


def test_concat_takes_every_lora_in_the_order_given(sheet: Sheet) -> None:
    step = oneliners.concat(
        sheet,
        [("b.safetensors", 0.7), ("a.safetensors", -0.4), ("b.safetensors", 1.0)],
        shuffled=False,
        small={},
    )
    assert list(sheet.draft().steps[step]["concat"].items()) == [("b", 0.7), ("a", -0.4), ("b-2", 1.0)]  # type: ignore[union-attr]


def test_concat_shuffles_before_it_resizes(sheet: Sheet) -> None:
    step = oneliners.concat(sheet, [("a.safetensors", 1.0)], shuffled=True, small={"rank": 4})
    recipe = parse(render(sheet.draft()))
    assert recipe.steps[step].kind == "svd-resize"
    assert recipe.steps[recipe.steps[step].inputs["svd-resize"][0].step].kind == "shuffle"


def test_resize_merge_and_extract_are_their_kinds(sheet: Sheet) -> None:
    oneliners.resize(sheet, "a.safetensors", {"rank": 4, "max-size": "10MB"})
    oneliners.merge(sheet, "m.safetensors", [("a.safetensors", 0.5)], {"unmatched": "warn"})
    oneliners.extract(sheet, "t.safetensors", "m.safetensors", {"rank": 8, "dynamic": {"sv-fro": 0.9}})
    steps = sheet.draft().steps
    assert steps["small"] == {"svd-resize": "a", "rank": 4, "max-size": "10MB"}
    assert steps["merged"] == {"merge-into-checkpoint": "base", "loras": {"a-2": 0.5}, "unmatched": "warn"}
    assert steps["difference"] == {
        "extract-lora": "tuned",
        "base": "base-2",
        "rank": 8,
        "dynamic": {"sv-fro": 0.9},
    }
    parse(render(sheet.draft()))
