"""Scores are logarithms of singular values over a mean of references; the best of them are kept."""

from __future__ import annotations

from math import inf, log10, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.ranks import Dynamic, Ranks, fitted_by_score, least_size
from lorapipe.weights.inference.scoring import REFERENCES, Score, best
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling, TensorSpec


def code(**said: object) -> str:
    with pytest.raises(RecipeError) as caught:
        Score(**said)  # type: ignore[arg-type]  # as a recipe may say it
    assert caught.value.option == "score"
    return caught.value.code


def test_a_score_is_a_singular_value_over_its_reference() -> None:
    assert Score({"spectral": 1}).of([10.0, 1.0], {"spectral": 100.0}) == pytest.approx([-1.0, -2.0])
    along = Score({"subspace": 2.5}).of([10.0, 1.0], {"subspace": [1.0, 0.01]})
    assert along == pytest.approx([1.0, 2.0])


def test_only_proportions_of_weights_count() -> None:
    references = {"frobenius": 7.0, "params": 30.0}
    found = Score({"frobenius": 3, "params": 1}).of([0.5], references)
    assert found == pytest.approx([log10(0.5) - 0.75 * log10(7.0) - 0.25 * log10(30.0)])
    assert Score({"frobenius": 0.3, "params": 0.1}).of([0.5], references) == pytest.approx(found)


def test_a_weight_of_0_asks_for_nothing_and_one_below_turns_a_reference_around() -> None:
    assert Score({"params": 1, "spectral": 0}).of([1.0], {"params": 10.0}) == pytest.approx([-1.0])
    assert not Score({"params": 1, "spectral": 0}).needs_base
    turned = Score({"spectral": 2, "params": -1}).of([1.0], {"spectral": 10.0, "params": 10.0})
    assert turned == pytest.approx([-1.0])


def test_nothing_scores_nothing_and_all_is_much_beside_nothing() -> None:
    assert Score({"spectral": 1}).of([1.0, 0.0], {"spectral": 0.0}) == pytest.approx([307.65265, -inf])
    both = {"spectral": 0.0, "frobenius": 0.0}
    (found,) = Score({"spectral": 2, "frobenius": -1}).of([1.0], both)
    assert found == pytest.approx(307.65265)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_base_is_needed_by_what_is_about_its_weights(name: str) -> None:
    assert Score({name: 1}).needs_base == (name in ("spectral", "frobenius", "subspace"))


def test_what_is_no_score_is_refused() -> None:
    assert code(by={"spectrum": 1}) == "unknown-reference"
    assert code(by={}) == "weights-cancel"
    assert code(by={"spectral": 1, "params": -1}) == "weights-cancel"
    assert code(by={"spectral": 1, "params": -2}) == "weights-cancel"
    assert code(by={"spectral": nan}) == "not-a-number"
    assert code(by={"spectral": 1}, threshold=inf) == "not-a-number"


def test_ranks_by_score_go_with_a_threshold_or_a_size_and_with_no_other_rule() -> None:
    with pytest.raises(RecipeError) as caught:
        Ranks(score=Score({"spectral": 1}))
    assert (caught.value.code, caught.value.option) == ("no-threshold", "score")
    with pytest.raises(RecipeError) as caught:
        Ranks(8, dynamic=Dynamic("sv-fro", 0.9), score=Score({"spectral": 1}, -1.0))
    assert (caught.value.code, caught.value.option) == ("two-rules", "dynamic")
    assert Ranks(score=Score({"spectral": 1}), max_size=10**6).bounded


def test_without_ranks_there_is_no_cap_and_with_one_sort_the_others_have_none() -> None:
    score = Score({"spectral": 1}, -1.0)
    linear, conv = (ModuleSpec(shape, 64, Spelling("x")) for shape in ((20, 30), (20, 30, 3, 3)))
    assert [Ranks(score=score).target(known) for known in (linear, conv)] == [20, 20]
    assert [Ranks(conv=4, score=score).target(known) for known in (linear, conv)] == [20, 4]
    assert [Ranks(8, score=score).target(known) for known in (linear, conv)] == [8, 8]


@given(
    st.lists(st.floats(-5, 5) | st.just(-inf), max_size=12), st.integers(0, 12), st.none() | st.floats(-5, 5)
)
def test_the_best_are_the_highest_in_order(scores: list[float], most: int, threshold: float | None) -> None:
    kept = best(scores, most, threshold)
    live = sorted((s for s in scores if s > -inf and (threshold is None or s >= threshold)), reverse=True)
    assert [scores[place] for place in sorted(kept, key=lambda p: -scores[p])] == live[:most]
    assert list(kept) == sorted(set(kept))


def test_of_equal_scores_the_earlier_is_kept() -> None:
    assert best([1.0, 1.0, 1.0], 2, None) == (0, 1)


# --- into a size --------------------------------------------------------------------------

A, B = (ModuleId("unet", f"{name}.weight") for name in "ab")
BIAS = ModuleId("unet", "c.bias")
ENTRY = 4 + 3 * (128 + len("lora_a"))
"""Alpha, and three entries of the header."""


def spec(*, bias: bool = False) -> AdapterSpec:
    modules = {
        A: ModuleSpec((10, 20), 8, Spelling("lora_a")),
        B: ModuleSpec((30, 20), 8, Spelling("lora_b")),
    }
    if bias:
        form = Form("full difference", ((".diff_b", TensorSpec("F16", (30,))),))
        modules[BIAS] = ModuleSpec((30,), 1, Spelling("lora_c"), form)
    return AdapterSpec("sd1", modules, "F16")


SCORES = {A: {0: -1.0, 2: -3.0}, B: {0: -2.0, 1: -2.5}}
FIRST_A, FIRST_B, MORE_A, MORE_B = ENTRY + 60, ENTRY + 100, 60, 100


@pytest.mark.parametrize(
    ("room", "kept"),
    [
        (FIRST_A, {A: (0,), B: ()}),
        (FIRST_A + FIRST_B - 1, {A: (0, 2), B: ()}),
        (FIRST_A + FIRST_B, {A: (0,), B: (0,)}),
        (FIRST_A + FIRST_B + MORE_B, {A: (0,), B: (0, 1)}),
        (FIRST_A + FIRST_B + MORE_B - 1, {A: (0, 2), B: (0,)}),
        (FIRST_A + FIRST_B + MORE_B + MORE_A, {A: (0, 2), B: (0, 1)}),
    ],
)
def test_the_highest_scores_that_have_room_go_into_a_size(room: int, kept: dict[ModuleId, object]) -> None:
    """A module's first takes its entry in the header, too; what has no room makes room for others."""
    assert fitted_by_score(spec(), room + len("{}"), SCORES) == kept


def test_biases_are_in_the_size_and_are_not_scored() -> None:
    with_bias = spec(bias=True)
    fixed = 60 + 4 + 3 * (128 + len("lora_c")) + len("{}")
    assert fitted_by_score(with_bias, fixed + FIRST_A, SCORES) == {A: (0,), B: ()}
    assert least_size(with_bias, scored=True) == fixed + FIRST_A


def test_the_earlier_of_equal_scores_goes_in() -> None:
    tied = {B: {0: -1.0, 1: -1.0}, A: {0: -1.0}}
    assert fitted_by_score(spec(), FIRST_B + len("{}"), tied) == {B: (0,), A: ()}
