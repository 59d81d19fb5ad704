"""LoHa is two products multiplied element by element, with or without cores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.formats.forms.loha import FORM

from .kit import DTYPES, Array, array, measured, numbers, refused, value

W = (".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b")
T = (".hada_t1", ".hada_t2")


def module(
    out: int, columns: tuple[int, ...], rank: int, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    a, b = (out, rank), (rank, *columns)
    return numbers(1, dtype, hada_w1_a=a, hada_w1_b=b, hada_w2_a=a, hada_w2_b=b)


def cored(
    out: int, into: int, kernel: tuple[int, ...], rank: int, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    a, b, core = (rank, out), (rank, into), (rank, rank, *kernel)
    return numbers(2, dtype, hada_w1_a=a, hada_w1_b=b, hada_w2_a=a, hada_w2_b=b, hada_t1=core, hada_t2=core)


def formula(tensors: dict[str, torch.Tensor], alpha: float | None) -> Array:
    held = {role: array(tensor) for role, tensor in tensors.items()}
    halves = []
    for i in (1, 2):
        a, b = held[f".hada_w{i}_a"], held[f".hada_w{i}_b"]
        if f".hada_t{i}" in held:
            # The einsum of LyCORIS' rebuild_tucker.
            halves.append(np.einsum("ij...,jr,ip->pr...", held[f".hada_t{i}"], b, a))
        else:
            halves.append((a @ b.reshape(b.shape[0], -1)).reshape(a.shape[0], *b.shape[1:]))
    scale = 1.0 if alpha is None else alpha / held[".hada_w1_b"].shape[0]
    return scale * halves[0] * halves[1]


ALPHAS = st.sampled_from([None, 0.5, 4.0])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 9),
    st.sampled_from([(1,), (7,), (5, 1, 1), (4, 3, 3), (36,), (2, 3)]),
    st.integers(1, 5),
    st.sampled_from(DTYPES),
    ALPHAS,
)
def test_the_delta_is_the_formula(
    out: int, columns: tuple[int, ...], rank: int, dtype: torch.dtype, alpha: float | None
) -> None:
    tensors = module(out, columns, rank, dtype)
    np.testing.assert_allclose(value(FORM, tensors, alpha), formula(tensors, alpha), rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 9),
    st.integers(1, 6),
    st.sampled_from([(), (1, 1), (3, 3), (1, 5), (3,)]),
    st.integers(1, 4),
    st.sampled_from(DTYPES),
    ALPHAS,
)
def test_with_cores_the_delta_is_the_formula(
    out: int, into: int, kernel: tuple[int, ...], rank: int, dtype: torch.dtype, alpha: float | None
) -> None:
    tensors = cored(out, into, kernel, rank, dtype)
    np.testing.assert_allclose(value(FORM, tensors, alpha), formula(tensors, alpha), rtol=1e-12, atol=1e-12)


def test_alpha_acts_once() -> None:
    """LyCORIS' own ``get_diff_weight`` applies alpha / r twice."""
    tensors = module(6, (5,), 4)
    np.testing.assert_allclose(value(FORM, tensors, 2.0), 0.5 * value(FORM, tensors), rtol=1e-15)


def test_a_kernel_is_told_by_a_core_alone() -> None:
    assert measured(FORM, module(8, (36,), 2)).shape == (8, 36)
    assert measured(FORM, cored(8, 4, (3, 3), 2)).shape == (8, 4, 3, 3)


def test_rank_is_the_square_up_to_the_full_one_and_alpha_is_over_its_root() -> None:
    known = measured(FORM, module(12, (10,), 3))
    assert (known.rank, known.divisor) == (9, 3)
    assert measured(FORM, module(12, (10,), 4)).rank == 10
    assert measured(FORM, cored(4, 1, (3, 3), 3)).rank == 4


def test_any_of_its_tensors_makes_the_format() -> None:
    assert FORM.needed == frozenset()
    assert list(FORM.roles) == [*W, *T]


@pytest.mark.parametrize("role", W)
def test_a_missing_half_is_named(role: str) -> None:
    tensors = module(6, (5,), 2)
    del tensors[role]
    assert refused(FORM, tensors) == ("half-missing", f"without {role[1:]}")


@pytest.mark.parametrize(("present", "missing"), [(T[0], T[1]), (T[1], T[0])])
def test_one_core_is_half_a_module(present: str, missing: str) -> None:
    tensors = cored(6, 5, (3, 3), 2)
    del tensors[missing]
    assert present in tensors
    assert refused(FORM, tensors) == ("half-missing", f"without {missing[1:]}")


@pytest.mark.parametrize(
    ("role", "shape", "code"),
    [
        (W[0], (6, 3), "ranks-disagree"),
        (W[1], (3, 5), "ranks-disagree"),
        (W[0], (7, 2), "bad-factor-shape"),
        (W[1], (2, 6), "bad-factor-shape"),
        (W[1], (2, 5, 3, 3), "bad-factor-shape"),
        (W[0], (6, 2, 3, 3), "bad-factor-shape"),
        (W[3], (2,), "bad-factor-shape"),
        (W[2], (0, 2), "bad-factor-shape"),
    ],
)
def test_shapes_that_no_module_has_are_refused(role: str, shape: tuple[int, ...], code: str) -> None:
    tensors = module(6, (5,), 2)
    tensors[role] = torch.zeros(shape)
    found, text = refused(FORM, tensors)
    assert found == code
    assert f"{role[1:]} {list(shape)}" in text


def test_halves_of_two_ranks_are_refused() -> None:
    """Programs differ in which of the two they divide alpha by."""
    tensors = module(6, (5,), 2) | {role: module(6, (5,), 3)[role] for role in W[2:]}
    code, text = refused(FORM, tensors)
    assert code == "ranks-disagree"
    assert text == "hada_w1_a [6, 2], hada_w1_b [2, 5], hada_w2_a [6, 3], hada_w2_b [3, 5]"


@pytest.mark.parametrize(
    ("role", "shape", "code"),
    [
        (T[0], (3, 2, 3, 3), "ranks-disagree"),
        (T[1], (2, 3, 3, 3), "ranks-disagree"),
        (T[0], (2, 2, 1, 1), "bad-factor-shape"),
        (T[0], (2,), "bad-factor-shape"),
        (W[0], (3, 6), "ranks-disagree"),
        (W[0], (2, 7), "bad-factor-shape"),
    ],
)
def test_cores_that_do_not_fit_are_refused(role: str, shape: tuple[int, ...], code: str) -> None:
    tensors = cored(6, 5, (3, 3), 2)
    tensors[role] = torch.zeros(shape)
    assert refused(FORM, tensors)[0] == code
