"""Which kind a step is."""

from __future__ import annotations

import pytest

from lorapipe.recipe.language import core_language

from .complaints import of_step, of_steps

KINDS = ", ".join(core_language().kinds)


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("{svd-resise: a}", "5:7: error: no step kind 'svd-resise' - did you mean 'svd-resize'?"),
        ("{svd_resize: a, rank: 4}", "5:7: error: no step kind 'svd_resize' - did you mean 'svd-resize'?"),
        ("{rank: 4, resize: a}", "5:16: error: no step kind 'resize' - did you mean 'svd-resize'?"),
        ("{merge: [a, b]}", "5:7: error: no step kind 'merge' - did you mean 'concat'?"),
        ("{twiddle: a}", f"5:7: error: no step kind 'twiddle' - the kinds are {KINDS}"),
        ("{twiddle: a, rank: 4}", f"5:7: error: no step kind 'twiddle' - the kinds are {KINDS}"),
        ("{acme.blur: a}", "5:7: error: no step kind 'acme.blur' - no installed package provides it"),
        ("{rank: 8}", "5:3: error: step 'x' has no kind - 'rank' is an option of combine, svd-resize, extract-lora, check"),
        ("{}", "5:3: error: step 'x' has no kind - such as {load: FILE}"),
        ("{description: d}", "5:3: error: step 'x' has no kind - such as {load: FILE}"),
        ("{kind: shuffle, seed: 1}", "5:3: error: step 'x' has no kind - the kind is the key that holds the main input: {shuffle: ...}"),
        ("{uses: acme, with: 1}", "5:3: error: step 'x' has no kind - the kind is the key that holds the main input: {KIND: ...}"),
        ("a.safetensors", "5:6: error: step 'x' is 'a.safetensors' - a step is a map, such as {load: a.safetensors}"),
        ("[a, b]", "5:6: error: step 'x' is a list - a step is a map, such as {load: FILE}"),
        ("", "5:5: error: step 'x' is nothing - a step is a map, such as {load: FILE}"),
        ("4", "5:6: error: step 'x' is 4 - a step is a map, such as {load: FILE}"),
        ("{shuffle: a, svd-resize: b}", "5:19: error: step 'x' has two kinds: shuffle and svd-resize - give each its own step; 'svd-resize' could take 'x'"),
        ("{save: a, load: f, to: f.pt}", "5:16: error: step 'x' has two kinds: save and load - give each its own step; 'save' could take 'x'"),
        ("{load: f, scale: a, save: b}", "5:16: error: step 'x' has three kinds: load, scale and save - give each its own step; 'scale' could take 'x'"),
    ],
)  # fmt: skip
def test_a_step_whose_kind_is_unclear_says_so_once(step: str, error: str) -> None:
    assert of_step(step) == [f"r.yaml:{error}"]


def test_of_a_misspelt_kind_the_values_are_checked_and_nothing_is_concluded() -> None:
    """Its options may be missing or strange because the guess is wrong; its values cannot be right."""
    assert of_step("{svd-resise: q, conv-rank: 0, other: 1}") == [
        "r.yaml:5:7: error: no step kind 'svd-resise' - did you mean 'svd-resize'?",
        "r.yaml:5:19: error: no step 'q'",
        "r.yaml:5:33: error: 'conv-rank' takes a whole number from 1, or $(name), not 0",
    ]


def test_of_two_kinds_the_values_of_both_are_checked() -> None:
    assert of_step("{shuffle: q, seed: -1, svd-resize: p, rank: 0, dtype: x}") == [
        "r.yaml:5:16: error: no step 'q'",
        "r.yaml:5:25: error: 'seed' takes a whole number from 0 to 2^53 - 1, or $(name), not -1",
        "r.yaml:5:29: error: step 'x' has two kinds: shuffle and svd-resize - give each its own step; 'svd-resize' could take 'x'",
        "r.yaml:5:41: error: no step 'p'",
        "r.yaml:5:50: error: 'rank' takes a whole number from 1, or $(name), not 0",
    ]


def test_a_step_that_cannot_be_read_is_still_a_step_for_the_others() -> None:
    assert of_steps("  x: {rank: 8}\n  y: {shuffle: x}\n  z: {concat: {x: 1, y: 2}}") == [
        "r.yaml:5:3: error: step 'x' has no kind - 'rank' is an option of combine, svd-resize, extract-lora, check"
    ]
