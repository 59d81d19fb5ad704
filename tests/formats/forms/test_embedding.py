"""PEFT's LoRA of an embedding: the product of its factors is the transpose of what the weight gains."""

from __future__ import annotations

import numpy as np
import pytest

from lorapipe.formats.forms.embedding import EMBEDDED_UP, FORM

from .kit import array, measured, numbers, refused, value

A, B = ".lora_embedding_A", EMBEDDED_UP


def test_it_is_b_times_a_and_says_that_this_is_the_transpose() -> None:
    tensors = numbers(1, lora_embedding_A=(2, 11), lora_embedding_B=(5, 2))
    known = measured(FORM, tensors)
    assert (known.shape, known.rank, known.divisor) == ((5, 11), 2, 2)
    np.testing.assert_allclose(
        value(FORM, tensors, 3.0), 1.5 * (array(tensors[B]) @ array(tensors[A])), rtol=1e-12
    )
    assert FORM.transposed
    assert FORM.plain


@pytest.mark.parametrize(
    ("a", "b", "code"),
    [
        ((2, 11), (5, 3), "ranks-disagree"),
        ((2,), (5, 2), "bad-factor-shape"),
        ((2, 11), (5, 2, 1), "bad-factor-shape"),
        ((0, 11), (5, 0), "bad-factor-shape"),
    ],
)
def test_shapes_of_no_embedding_are_refused_with_both(
    a: tuple[int, ...], b: tuple[int, ...], code: str
) -> None:
    tensors = numbers(1, lora_embedding_A=a, lora_embedding_B=b)
    assert refused(FORM, tensors) == (code, f"B {list(b)}, A {list(a)}")
