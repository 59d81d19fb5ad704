"""Keys of a step in the order in which the step reference lists them."""

from __future__ import annotations

import pytest

from lorapipe.recipe.formatting import format_text


def step(text: str) -> str:
    return format_text(f"steps:\n  a: {text}\n").removeprefix("steps:\n  a: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{dtype: fp16, to: x.pt, save: b}", "{save: b, to: x.pt, dtype: fp16}"),
        ("{conv-rank: 4, rank: 8, svd-resize: b}", "{svd-resize: b, rank: 8, conv-rank: 4}"),
        (
            "{description: d, nonsense: 1, as: lora, load: x}",
            "{load: x, as: lora, description: d, nonsense: 1}",
        ),
        ("{z: 1, acme.blur: b, a: 2}", "{acme.blur: b, z: 1, a: 2}"),
    ],
)
def test_the_kind_comes_first_then_its_options_then_the_rest(before: str, after: str) -> None:
    assert step(before) == after


@pytest.mark.parametrize(
    "kept",
    [
        "{concat: {z: 1, a: 2, m: 3}}",  # the order of terms is that of the ranks
        "{as: lora, family: sdxl}",  # no kind
        "{shuffle: x, concat: y}",  # two
        "{conv-rank: &r 8, svd-resize: b, rank: *r}",  # an alias may not come before its anchor
        "{as: lora, load: *nowhere}".replace("*nowhere", "x, &k family: y"),
    ],
)
def test_what_has_to_stay_stays(kept: str) -> None:
    assert step(kept) == kept


def test_comments_in_lines_go_with_their_option_and_in_braces_hold_all_in_place() -> None:
    assert format_text("steps:\n  a:\n    # why lora\n    as: lora  # so\n    load: x\n") == (
        "steps:\n  a:\n    load: x\n    # why lora\n    as: lora  # so\n"
    )
    braces = "steps:\n  a: {as: lora,  # so\n      load: x}\n"
    assert format_text(braces) == braces


def test_other_maps_keep_their_order() -> None:
    text = "steps:\n  a: {load: x}\nparams: {z: 1, a: 2}\nname: last\nlorapipe: 1\n"
    assert format_text(text) == text
