"""Modules against weights, by shape: deltas, formats that leave axes open, weights to be padded."""

from __future__ import annotations

import pytest

from lorapipe.weights.inference.fitting import fits, misfit, uncuttable
from lorapipe.weights.specs import Form, ModuleSpec, Spelling


def module(shape: tuple[int, ...], form: Form | None = None) -> ModuleSpec:
    return ModuleSpec(shape, 0, Spelling("x"), form)


def operator(*shape: int, **said: object) -> ModuleSpec:
    return module(shape, Form("OFT", additive=False, **said))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "whole"),
    [
        (module((8, 6)), (8, 6, 1, 1)),
        (module((8, 6, 1, 1)), (8, 6)),
        (module((8,)), (8,)),
        (module((8, 54), Form("LoHa")), (8, 6, 3, 3)),
        (operator(8, 0), (8, 6)),
        (operator(8, 0), (8, 6, 3, 3)),
        (operator(0, 6), (8, 6)),
        (operator(0, 54), (8, 6, 3, 3)),
        (operator(0, 6, 0, 0), (8, 6, 3, 3)),
        (operator(0, 6, 0, 0), (8, 6, 1, 1)),
        (operator(0, 6, 0, 0), (8, 6)),
        (operator(0, 0), (8, 6, 3, 3)),
        (operator(8), (8,)),
        (operator(8, 6, grows=True), (8, 4)),
        (operator(8, 6, grows=True), (5, 6)),
        (operator(8, 6, 3, 3, grows=True), (8, 4, 3, 3)),
    ],
)
def test_it_fits(spec: ModuleSpec, whole: tuple[int, ...]) -> None:
    assert fits(spec, whole)
    assert misfit(spec, whole) is None


@pytest.mark.parametrize(
    ("spec", "whole", "reason"),
    [
        (module((8, 6)), (8, 5), "a delta [8, 6] does not fit the checkpoint's weight [8, 5]"),
        (
            module((8, 4)), (4, 8),
            "a delta [8, 4] does not fit the checkpoint's weight [4, 8] (as many values, another shape)",
        ),
        (operator(8, 0), (9, 6), "OFT for [8, ?] does not fit the checkpoint's weight [9, 6]"),
        (operator(0, 6), (8, 6, 3, 3), "OFT for [?, 6] does not fit the checkpoint's weight [8, 6, 3, 3]"),
        (operator(0, 6, 3, 3), (8, 6), "OFT for [?, 6, 3, 3] does not fit the checkpoint's weight [8, 6]"),
        (operator(8, 0), (8,), "OFT for [8, ?] does not fit the checkpoint's weight [8]"),
        (operator(8, 6, grows=True), (8, 7), "OFT for [8, 6] does not fit the checkpoint's weight [8, 7]"),
        (
            operator(8, 6, 3, 3, grows=True), (8, 4, 1, 3),
            "OFT for [8, 6, 3, 3] does not fit the checkpoint's weight [8, 4, 1, 3]",
        ),
    ],
)  # fmt: skip
def test_it_does_not_fit_and_the_reason_shows_both(
    spec: ModuleSpec, whole: tuple[int, ...], reason: str
) -> None:
    assert misfit(spec, whole) == reason


def test_a_delta_of_rows_says_so() -> None:
    assert (
        misfit(module((8, 6)), (4, 6), "rows") == "a delta [8, 6] does not fit the checkpoint's rows [4, 6]"
    )


def test_only_operators_have_rows_that_cannot_be_parted() -> None:
    form = Form("OFT", additive=False, cuts=((8, 4),))
    assert uncuttable(None, 1, 3, 8) is None
    assert uncuttable(Form("LoHa"), 1, 3, 8) is None
    assert uncuttable(form, 4, 8, 8) is None
    assert uncuttable(form, 0, 3, 8) == "OFT cannot be cut at rows 0:3, which the checkpoint keeps apart"


def test_all_rows_are_no_cut_even_of_what_has_none() -> None:
    form = Form("DoRA", additive=False)
    assert uncuttable(form, 0, 8, 8) is None
    assert uncuttable(form, 0, 4, 8) is not None


def test_a_kernel_on_the_latents_fits_an_inpainting_models_and_nothing_else_of_fewer_inputs_does() -> None:
    def spec(*shape: int) -> ModuleSpec:
        return ModuleSpec(shape, 4, Spelling("x"))

    assert fits(spec(320, 4, 3, 3), (320, 9, 3, 3))
    assert fits(spec(320, 4, 3, 3), (320, 8, 3, 3))
    assert not fits(spec(320, 4, 3, 3), (640, 9, 3, 3))
    assert not fits(spec(320, 4, 3, 3), (320, 9, 1, 1))
    assert not fits(spec(320, 9, 3, 3), (320, 4, 3, 3))
    assert not fits(spec(320, 5, 3, 3), (320, 9, 3, 3))
    assert not fits(spec(320, 4), (320, 9))
