"""OFT and BOFT: which one it is, what it does, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lorapipe.errors import InputError
from lorapipe.formats.forms.oft import FORM

from .kit import DTYPES, Array, array, measured, numbers, refused
from .operators import close, made, operator, weight


def rotations(blocks: Array, limit: float = 0.0) -> Array:
    """``(I + Q)(I - Q)^-1`` of each block, all of them shrunk to a common norm."""
    q = blocks - blocks.swapaxes(-1, -2)
    norm = np.sqrt((q**2).sum())
    q = q * (limit / norm if 0 < limit < norm else 1.0)
    one = np.eye(q.shape[-1])
    return (one + q) @ np.linalg.inv(one - q)


def oft(w: Array, matrices: Array, rescale: Array | None = None) -> Array:
    size = matrices.shape[-1]
    blocks = [matrix.T @ w[k * size : (k + 1) * size].reshape(size, -1) for k, matrix in enumerate(matrices)]
    found = np.concatenate(blocks).reshape(w.shape)
    return found if rescale is None else found * rescale.reshape(-1, *(1 for _ in w.shape[1:]))


@pytest.mark.parametrize("columns", [(5,), (3, 2, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("alpha", [None, 0.0, 0.01])
@pytest.mark.parametrize("rescaled", [False, True])
def test_three_axes_are_oft(
    columns: tuple[int, ...], dtype: torch.dtype, alpha: float | None, rescaled: bool
) -> None:
    tensors, w = numbers(1, dtype, oft_blocks=(3, 4, 4)), weight(12, *columns)
    if rescaled:
        tensors |= numbers(2, dtype, rescale=(12, *(1 for _ in columns)))
    rescale = array(tensors[".rescale"]) if rescaled else None
    matrices = rotations(array(tensors[".oft_blocks"]), 12 * (alpha or 0.0))
    close(made(FORM, tensors, w, alpha), oft(w, matrices, rescale), 1e-6 if alpha else 1e-10)
    assert measured(FORM, tensors).name is None


def boft(w: Array, stages: Array) -> Array:
    """Each stage through a whole permutation matrix."""
    for i, matrices in enumerate(stages):
        size, out = matrices.shape[-1], len(w)
        half = 2**i * size // 2
        order = [
            group + side * half + place
            for group in range(0, out, 2 * half)
            for place in range(half)
            for side in range(2)
        ]
        p = np.eye(out)[order]
        diagonal = np.zeros((out, out))
        for k, matrix in enumerate(matrices):
            diagonal[k * size : (k + 1) * size, k * size : (k + 1) * size] = matrix
        w = (p.T @ diagonal @ p @ w.reshape(out, -1)).reshape(w.shape)
    return w


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 4, 4, 4), (3, 4, 2, 2)])
@pytest.mark.parametrize("alpha", [None, 0.01])
def test_four_axes_are_boft(shape: tuple[int, ...], alpha: float | None) -> None:
    out = shape[1] * shape[2]
    tensors, w = numbers(1, oft_blocks=shape), weight(out, 5)
    matrices = rotations(array(tensors[".oft_blocks"]), out * (alpha or 0.0))
    close(made(FORM, tensors, w, alpha), boft(w, matrices), 1e-6 if alpha else 1e-10)
    known = measured(FORM, tensors)
    assert known.name == "BOFT"
    assert known.cuts == ((out, 2 ** (shape[0] - 1) * shape[2]),)


def test_alpha_is_a_limit_and_divides_nothing() -> None:
    known = measured(FORM, numbers(1, oft_blocks=(3, 4, 4)))
    assert (known.shape, known.rank, known.divisor, known.cuts) == ((12, 0), 0, None, ((12, 4),))


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        (numbers(1, oft_blocks=(3, 4, 5)), "oft_blocks [3, 4, 5]"),
        (numbers(1, oft_blocks=(12, 4)), "oft_blocks [12, 4]"),
        (numbers(1, oft_blocks=(0, 4, 4)), "oft_blocks [0, 4, 4]"),
        (numbers(1, oft_blocks=(2, 3, 4, 4)), "oft_blocks [2, 3, 4, 4]"),
        (numbers(1, oft_blocks=(1, 3, 3, 3)), "oft_blocks [1, 3, 3, 3]"),
        (numbers(1, oft_blocks=(3, 4, 4), rescale=(11, 1)), "oft_blocks [3, 4, 4], rescale [11, 1]"),
        (numbers(1, oft_blocks=(2, 4, 4, 4), rescale=(1, 16)), "oft_blocks [2, 4, 4, 4], rescale [1, 16]"),
    ],
)
def test_blocks_that_make_no_rows_are_refused(tensors: dict[str, Tensor], text: str) -> None:
    assert refused(FORM, tensors) == ("bad-factor-shape", text)


@pytest.mark.parametrize("alpha", [-1.0, float("nan"), float("inf")])
def test_an_alpha_that_is_no_limit_is_refused(alpha: float) -> None:
    with pytest.raises(InputError) as caught:
        operator(FORM, numbers(1, oft_blocks=(3, 4, 4)), alpha)
    assert str(caught.value) == f"error: its alpha is {alpha:g}, where 0 or a positive limit is due"
