"""GLoRA: two generations of files, told apart by shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lorapipe.formats.forms.glora import FORM

from .kit import DTYPES, Array, array, measured, numbers, refused
from .operators import close, made, weight


def new(
    out: int, columns: tuple[int, ...], rank: int, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    into, ones = columns[0], tuple(1 for _ in columns[1:])
    shapes = {
        "a1": (into, rank, *ones),
        "a2": (rank, into, *ones),
        "b1": (out, rank, *ones),
        "b2": (rank, *columns),
    }
    return numbers(1, dtype, **{f"{name}__weight": shape for name, shape in shapes.items()})


def old(out: int, into: int, rank: int) -> dict[str, Tensor]:
    shapes = {"a1": (rank, into), "a2": (into, rank), "b1": (rank, into), "b2": (out, rank)}
    return numbers(1, **{f"{name}__weight": shape for name, shape in shapes.items()})


def held(tensors: dict[str, Tensor]) -> tuple[Array, ...]:
    arrays = (array(tensors[f".{name}.weight"]) for name in ("a1", "a2", "b1", "b2"))
    return tuple(found.reshape(len(found), -1) for found in arrays)


@given(
    st.integers(5, 9),
    st.sampled_from([(8,), (6, 1, 1), (5, 3, 3)]),
    st.integers(1, 4),
    st.sampled_from(DTYPES),
    st.sampled_from([None, 0.5, 4.0]),
)
def test_present_files(
    out: int, columns: tuple[int, ...], rank: int, dtype: torch.dtype, alpha: float | None
) -> None:
    tensors, w = new(out, columns, rank, dtype), weight(out, *columns)
    a1, a2, b1, b2 = held(tensors)
    s = 1.0 if alpha is None else alpha / rank
    added = np.einsum("oi...,ij,jk->ok...", w, a1, a2) + (b1 @ b2).reshape(w.shape)
    close(made(FORM, tensors, w, alpha), w + s * added)
    known = measured(FORM, tensors)
    assert (known.shape, known.divisor, known.cuts) == ((out, *columns), rank, ((out, 1),))


@pytest.mark.parametrize(("out", "into", "rank"), [(6, 8, 3), (8, 6, 2), (7, 7, 3)])
@pytest.mark.parametrize("strength", [1.0, -0.4])
def test_old_files_have_the_factors_the_other_way_round(
    out: int, into: int, rank: int, strength: float
) -> None:
    tensors, w = old(out, into, rank), weight(out, into)
    a1, a2, b1, b2 = held(tensors)
    expected = w + strength * 2.0 / rank * (b2 @ b1 + w @ a2 @ a1)
    close(made(FORM, tensors, w, 2.0, strength), expected)
    assert measured(FORM, tensors).divisor == rank


def test_of_a_square_weight_the_order_of_lower_rank_is_meant() -> None:
    assert measured(FORM, new(7, (7,), 3)).divisor == 3
    assert measured(FORM, old(7, 7, 3)).divisor == 3


def test_a_core_stands_between_b1_and_b2() -> None:
    tensors, w = {**new(6, (4, 1, 1), 2), **numbers(3, bm__weight=(2, 2, 3, 3))}, weight(6, 4, 3, 3)
    a1, a2, b1, b2 = held(tensors)
    core = array(tensors[".bm.weight"])
    added = np.einsum("oikl,ij,jm->omkl", w, a1, a2) + np.einsum("mnkl,om,ni->oikl", core, b1, b2)
    close(made(FORM, tensors, w), w + added)
    assert measured(FORM, tensors).shape == (6, 4, 3, 3)


def test_a_kernel_beside_a_core_is_refused() -> None:
    tensors = {**new(6, (4, 3, 3), 2), **numbers(3, bm__weight=(2, 2, 3, 3))}
    assert refused(FORM, tensors)[0] == "bad-factor-shape"


def test_a_factor_that_is_missing_is_named() -> None:
    tensors = new(6, (8,), 3)
    del tensors[".b1.weight"]
    assert refused(FORM, tensors) == ("half-missing", "without b1")


@pytest.mark.parametrize("name", ["a1", "a2", "b1", "b2"])
def test_factors_that_do_not_go_together_are_refused(name: str) -> None:
    tensors = {**new(6, (8,), 3), **numbers(2, **{f"{name}__weight": (5, 4)})}
    assert refused(FORM, tensors)[0] == "bad-factor-shape"
