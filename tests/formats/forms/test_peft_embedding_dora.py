"""PEFT's DoRA of an embedding: the transpose of the weight has rows of trained lengths."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from lorapipe.formats.forms.peft_embedding_dora import FORM

from .kit import array, measured, numbers, refused
from .operators import close, made, weight


def embedding(magnitude: tuple[int, ...] = (5,)) -> dict[str, Tensor]:
    return numbers(1, lora_embedding_A=(2, 9), lora_embedding_B=(5, 2), lora_magnitude_vector=magnitude)


def test_each_number_of_the_embedding_has_its_length_over_all_words() -> None:
    tensors, words = embedding(), weight(9, 5)
    a, b = array(tensors[".lora_embedding_A"]), array(tensors[".lora_embedding_B"])
    v = words + 1.5 * (b @ a).T
    expected = v * array(tensors[".lora_magnitude_vector"]) / np.sqrt((v**2).sum(0))
    assert FORM.transposed
    close(made(FORM, tensors, words.T.copy(), 3.0).T, expected)


def test_it_is_measured_as_it_lies_in_the_file() -> None:
    known = measured(FORM, embedding())
    assert (known.shape, known.rank, known.divisor, known.cuts) == ((5, 9), 0, 2, ((5, 1),))


@pytest.mark.parametrize("magnitude", [(9,), (5, 1), ()])
def test_other_lengths_are_refused(magnitude: tuple[int, ...]) -> None:
    assert refused(FORM, embedding(magnitude))[0] == "bad-factor-shape"
