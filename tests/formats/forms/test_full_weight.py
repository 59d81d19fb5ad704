"""Whole parameters."""

from __future__ import annotations

import pytest

from lorapipe.formats.forms.full_weight import FORM

from .kit import DTYPES, array, measured, numbers
from .operators import close, made, weight


@pytest.mark.parametrize("shape", [(6, 5), (6, 4, 3, 3), (6,), ()])
def test_it_takes_the_weights_place(shape: tuple[int, ...]) -> None:
    for dtype in DTYPES:
        tensors = numbers(1, dtype, set_weight=shape)
        value = array(tensors[".set_weight"])
        close(made(FORM, tensors, weight(*shape)), value, 0.0)
        close(made(FORM, tensors, weight(*shape), strength=0.25), 0.75 * weight(*shape) + 0.25 * value)
        assert measured(FORM, tensors).shape == shape
