"""PEFT's DoRA: lengths of rows, also where a convolution's look like those of channels."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from lorapipe.formats.forms.peft_dora import FORM

from .kit import array, measured, numbers, refused
from .operators import close, made, weight


def lora(magnitude: tuple[int, ...], columns: tuple[int, ...] = (4,)) -> dict[str, Tensor]:
    kernel = tuple(1 for _ in columns[1:])
    factors = {"lora_up__weight": (6, 2, *kernel), "lora_down__weight": (2, *columns)}
    return numbers(1, **factors, lora_magnitude_vector=magnitude)


@pytest.mark.parametrize(
    ("magnitude", "columns"), [((6,), (4,)), ((1, 6, 1, 1), (4, 3, 3)), ((1, 6, 1, 1), (6, 3, 3))]
)
def test_rows_have_the_lengths_and_nothing_is_added_to_a_norm(
    magnitude: tuple[int, ...], columns: tuple[int, ...]
) -> None:
    tensors, w = lora(magnitude, columns), weight(6, *columns)
    up, down = (array(tensors[f".lora_{name}.weight"]) for name in ("up", "down"))
    v = w + (0.5 * up.reshape(6, -1) @ down.reshape(2, -1)).reshape(w.shape)
    lengths = array(tensors[".lora_magnitude_vector"]).ravel()
    expected = np.stack([row * m / np.sqrt((row**2).sum()) for row, m in zip(v, lengths, strict=True)])
    close(made(FORM, tensors, w, 1.0), expected, 1e-13)
    assert measured(FORM, tensors).divisor == 2


@pytest.mark.parametrize("magnitude", [(4,), (6, 2), (1, 4, 1, 1), ()])
def test_other_lengths_are_refused(magnitude: tuple[int, ...]) -> None:
    assert refused(FORM, lora(magnitude))[0] == "bad-factor-shape"


def test_it_stands_under_both_spellings() -> None:
    assert FORM.roles[".lora_magnitude_vector"] == (".lora_magnitude_vector.weight",)
    assert ".lora_B.weight" in FORM.roles[".lora_up.weight"]
