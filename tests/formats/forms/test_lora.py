"""Two factors, with and without the axes of a kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.formats.forms.lora import DOWN, FORM, UP

from .kit import DTYPES, array, measured, numbers, refused, value


def module(
    up: tuple[int, ...], down: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    return numbers(1, dtype, lora_up__weight=up, lora_down__weight=down)


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 6),
    st.sampled_from([(), (1, 1), (3, 3), (3,), (1, 2, 2)]),
    st.booleans(),
)
def test_the_delta_is_alpha_over_rank_times_up_times_down(
    out: int, into: int, rank: int, kernel: tuple[int, ...], flat: bool
) -> None:
    """``flat``: the factor up is a matrix, as converters leave it."""
    tensors = module((out, rank, *(() if flat else (1,) * len(kernel))), (rank, into, *kernel))
    known = measured(FORM, tensors)
    assert (known.shape, known.rank, known.divisor) == ((out, into, *kernel), rank, rank)
    up, down = array(tensors[UP]).reshape(out, rank), array(tensors[DOWN])
    expected = 3.0 / rank * np.einsum("or,ri...->oi...", up, down)
    np.testing.assert_allclose(value(FORM, tensors, 3.0), expected, rtol=1e-12)


def test_a_kernel_may_be_told_by_up_alone() -> None:
    assert measured(FORM, module((6, 2, 1, 1), (2, 5))).shape == (6, 5, 1, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_factors_are_the_files_own(dtype: torch.dtype) -> None:
    tensors = module((6, 2, 1, 1), (2, 5, 3, 3), dtype)
    factors = FORM.value({role: (lambda t=t: t) for role, t in tensors.items()}, 7.0)  # type: ignore[misc]
    assert torch.equal(factors.up, tensors[UP].flatten(1))
    assert torch.equal(factors.down, tensors[DOWN].flatten(1))


def test_without_alpha_the_scale_is_1() -> None:
    tensors = module((6, 2), (2, 5))
    np.testing.assert_allclose(value(FORM, tensors), array(tensors[UP]) @ array(tensors[DOWN]), rtol=1e-12)


@pytest.mark.parametrize(
    ("up", "down", "code"),
    [
        ((6,), (2, 5), "bad-factor-shape"),
        ((6, 2), (2,), "bad-factor-shape"),
        ((), (2, 5), "bad-factor-shape"),
        ((6, 2, 3, 3), (2, 5), "bad-factor-shape"),
        ((6, 0), (0, 5), "bad-factor-shape"),
        ((0, 2), (2, 5), "bad-factor-shape"),
        ((6, 2), (2, 5, 0), "bad-factor-shape"),
        ((6, 2), (3, 5), "ranks-disagree"),
    ],
)
def test_shapes_of_no_lora_are_refused_with_both(
    up: tuple[int, ...], down: tuple[int, ...], code: str
) -> None:
    assert refused(FORM, module(up, down)) == (code, f"up {list(up)}, down {list(down)}")


def test_each_spelling_has_both_factors() -> None:
    ups, downs = FORM.roles[UP], FORM.roles[DOWN]
    assert [up.replace("up", "down").replace("_B", "_A") for up in ups] == list(downs)
    assert FORM.plain
