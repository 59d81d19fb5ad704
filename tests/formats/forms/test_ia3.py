"""LyCORIS' IA3: the side is a number in the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lorapipe.errors import InputError
from lorapipe.formats.forms.ia3 import FORM

from .kit import array, measured, numbers, refused
from .operators import close, made, operator, weight


def ia3(shape: tuple[int, ...], side: float, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {**numbers(1, weight=shape), ".on_input": torch.tensor(side, dtype=dtype)}


@pytest.mark.parametrize(
    ("gain", "side", "shape"),
    [((6,), 0, (6, 5)), ((5,), 1, (6, 5)), ((1, 6, 1, 1), 0, (6, 5, 3, 3)), ((1, 5, 1, 1), 1, (6, 5, 3, 3))],
)
def test_rows_or_input_channels_are_gained(gain: tuple[int, ...], side: int, shape: tuple[int, ...]) -> None:
    tensors, w = ia3(gain, side), weight(*shape)
    g = array(tensors[".weight"]).ravel()
    axis = (slice(None), *(None for _ in shape[2:])) if side else (slice(None), *(None for _ in shape[1:]))
    close(made(FORM, tensors, w), w * (1 + g[axis]))
    close(made(FORM, tensors, w, strength=-0.5), w * (1 - 0.5 * g[axis]))


def test_a_square_weight_has_the_side_that_the_file_says() -> None:
    w = weight(6, 6)
    rows, channels = made(FORM, ia3((6,), 0), w), made(FORM, ia3((6,), 1), w)
    assert not np.allclose(rows, channels)


def test_headers_tell_no_axis() -> None:
    known = measured(FORM, ia3((6,), 0))
    assert (known.shape, known.divisor, known.biased) == ((0, 0), None, False)


def test_a_side_that_is_neither_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        operator(FORM, ia3((6,), 2))
    assert str(caught.value) == "error: 'on_input' is 2, which is neither 0 nor 1"


@pytest.mark.parametrize("gain", [(2, 3), (0,), ()])
def test_gains_of_two_axes_or_none_are_refused(gain: tuple[int, ...]) -> None:
    code, text = refused(FORM, ia3(gain, 0))
    assert (code, text) == ("bad-factor-shape", f"weight {list(gain)}, on_input []")


def test_a_bare_weight_is_no_ia3() -> None:
    assert FORM.needed == {".weight", ".on_input"}
