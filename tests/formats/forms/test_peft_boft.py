"""PEFT's BOFT: one stage is blocks of columns; more have the shapes for it."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from lorapipe.formats.forms.peft_boft import FORM

from .kit import array, measured, numbers, refused
from .operators import close, made, weight


@pytest.mark.parametrize(("shape", "scale"), [((6, 12), (6, 1)), ((6, 3, 2, 2), (1, 6))])
def test_columns_are_turned_in_blocks_and_rows_scaled(shape: tuple[int, ...], scale: tuple[int, int]) -> None:
    tensors, w = numbers(1, boft_R=(1, 3, 4, 4), boft_s=scale), weight(*shape)
    flat, parts = w.reshape(6, 12), []
    for k, block in enumerate(array(tensors[".boft_R"])[0]):
        q, one = (block - block.T) / 2, np.eye(4)
        r = (one - q) @ np.linalg.inv(one + q)
        parts.append(flat[:, 4 * k : 4 * k + 4] @ r.T)
    expected = np.concatenate(parts, axis=1) * array(tensors[".boft_s"]).reshape(-1, 1)
    close(made(FORM, tensors, w), expected.reshape(shape))


def test_both_axes_are_told_and_each_row_is_on_its_own() -> None:
    known = measured(FORM, numbers(1, boft_R=(2, 4, 2, 2), boft_s=(6, 1)))
    assert (known.shape, known.divisor, known.cuts) == ((6, 8), None, ((6, 1),))


@pytest.mark.parametrize(
    "tensors",
    [
        numbers(1, boft_R=(1, 3, 4, 5), boft_s=(6, 1)),
        numbers(1, boft_R=(3, 4, 4), boft_s=(6, 1)),
        numbers(1, boft_R=(2, 3, 4, 4), boft_s=(6, 1)),
        numbers(1, boft_R=(2, 4, 3, 3), boft_s=(6, 1)),
        numbers(1, boft_R=(1, 3, 4, 4), boft_s=(6, 2)),
        numbers(1, boft_R=(1, 3, 4, 4), boft_s=(0, 1)),
    ],
)
def test_shapes_that_no_stages_have_are_refused(tensors: dict[str, Tensor]) -> None:
    assert refused(FORM, tensors)[0] == "bad-factor-shape"
