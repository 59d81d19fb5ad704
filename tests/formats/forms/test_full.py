"""A full difference is its numbers, of a weight of any shape, a bias or a norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.formats.forms.full import FORM

from .kit import DTYPES, array, measured, numbers, refused, value


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(7,), (7, 5), (7, 5, 1, 1), (7, 5, 3, 3), (7, 5, 3), (1,), (7, 1)])
def test_the_delta_is_the_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensors = numbers(0, dtype, diff=shape)
    assert measured(FORM, tensors).shape == shape
    np.testing.assert_array_equal(value(FORM, tensors), array(tensors[".diff"]))


def test_alpha_says_nothing() -> None:
    tensors = numbers(0, diff=(7, 5))
    assert measured(FORM, tensors).divisor is None
    np.testing.assert_array_equal(value(FORM, tensors, 0.25), value(FORM, tensors))


@pytest.mark.parametrize(("shape", "rank"), [((7,), 1), ((7, 5), 5), ((5, 7, 3, 3), 5), ((9, 1, 1, 1), 1)])
def test_rank_is_the_full_one(shape: tuple[int, ...], rank: int) -> None:
    assert measured(FORM, numbers(0, diff=shape)).rank == rank


def test_it_has_one_tensor() -> None:
    assert FORM.needed == FORM.roles.keys() == {".diff"}
    assert FORM.additive


@pytest.mark.parametrize("shape", [(), (0,), (7, 0)])
def test_no_numbers_are_refused(shape: tuple[int, ...]) -> None:
    assert refused(FORM, {".diff": torch.zeros(shape)}) == ("bad-factor-shape", f"diff {list(shape)}")
