"""LoKr is a Kronecker product, each half a matrix or factors, the large one with a kernel or without."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.formats.forms.lokr import FORM

from .kit import DTYPES, Array, array, measured, numbers, refused, value

W1, W1A, W1B = ".lokr_w1", ".lokr_w1_a", ".lokr_w1_b"
W2, W2A, W2B, T2 = ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2"


def module(
    small: tuple[int, int],
    large: tuple[int, ...],
    ranks: tuple[int | None, int | None] = (None, None),
    *,
    core: bool = False,
    told: bool = True,
    dtype: torch.dtype = torch.float32,
) -> dict[str, torch.Tensor]:
    """The tensors of one variant; ``told``: factors of a convolution keep their kernel's axes."""
    (a, c), (b, d, *kernel) = small, large
    shapes: dict[str, tuple[int, ...]] = {}
    first, second = ranks
    shapes |= {"lokr_w1": (a, c)} if first is None else {"lokr_w1_a": (a, first), "lokr_w1_b": (first, c)}
    if core and second is not None:
        shapes |= {"lokr_w2_a": (second, b), "lokr_w2_b": (second, d), "lokr_t2": (second, second, *kernel)}
    elif second is None:
        shapes |= {"lokr_w2": large}
    else:
        right = (d, *kernel) if told else (d * int(np.prod(kernel)),)
        shapes |= {"lokr_w2_a": (b, second), "lokr_w2_b": (second, *right)}
    return numbers(4, dtype, **shapes)


def formula(tensors: dict[str, torch.Tensor], alpha: float | None, kernel: tuple[int, ...]) -> Array:
    """As LyCORIS computes it: a Kronecker product of whole tensors, kernels and all."""
    held = {role: array(tensor) for role, tensor in tensors.items()}
    rank = None
    if (first := held.get(W1)) is None:
        first, rank = held[W1A] @ held[W1B], held[W1B].shape[0]
    if (second := held.get(W2)) is None:
        rank = held[W2B].shape[0]
        if T2 in held:
            second = np.einsum("ij...,ip,jq->pq...", held[T2], held[W2A], held[W2B])
        else:
            second = held[W2A] @ held[W2B].reshape(rank, -1)
            second = second.reshape(second.shape[0], -1, *kernel)
    first = first.reshape(*first.shape, *(1 for _ in range(second.ndim - 2)))
    scale = 1.0 if rank is None or alpha is None else alpha / rank
    return scale * np.kron(first, second)


sizes = st.integers(1, 5)
ranks = st.none() | st.integers(1, 6)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_the_delta_is_the_formula(data: st.DataObject) -> None:
    small = (data.draw(sizes), data.draw(sizes))
    kernel = data.draw(st.sampled_from([(), (1, 1), (3, 3), (1, 3), (3,)]))
    large = (data.draw(sizes), data.draw(sizes), *kernel)
    first, second = data.draw(ranks), data.draw(ranks)
    core, told = data.draw(st.booleans()), data.draw(st.booleans())
    alpha = data.draw(st.sampled_from([None, 0.5, 4.0]))
    tensors = module(
        small, large, (first, second), core=core, told=told, dtype=data.draw(st.sampled_from(DTYPES))
    )
    found, expected = value(FORM, tensors, alpha), formula(tensors, alpha, kernel)
    # A kernel that the file does not tell is in one axis with the inputs.
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("tensors", "shape", "rank", "divisor"),
    [
        (module((2, 3), (6, 4)), (12, 12), 8, None),
        (module((4, 3), (6, 4), (2, None)), (24, 12), 8, 2),
        (module((4, 3), (6, 4), (None, 1)), (24, 12), 3, 1),
        (module((4, 3), (6, 4), (2, 3)), (24, 12), 6, 3),
        (module((4, 3), (6, 4), (9, 9)), (24, 12), 12, 9),
        (module((2, 3), (6, 4, 3, 3)), (12, 12, 3, 3), 12, None),
        (module((2, 3), (6, 4, 1, 1)), (12, 12, 1, 1), 8, None),
        (module((2, 3), (6, 4, 3, 3), (None, 2)), (12, 12, 3, 3), 4, 2),
        (module((2, 3), (6, 4, 3, 3), (None, 2), told=False), (12, 108), 4, 2),
        (module((2, 3), (6, 4, 3, 3), (None, 2), core=True), (12, 12, 3, 3), 4, 2),
    ],
)
def test_shape_rank_and_divisor_come_from_the_shapes(
    tensors: dict[str, torch.Tensor], shape: tuple[int, ...], rank: int, divisor: int | None
) -> None:
    known = measured(FORM, tensors)
    assert (known.shape, known.rank, known.divisor) == (shape, rank, divisor)


@pytest.mark.parametrize("alpha", [1e30, float("inf"), 8.0])
def test_of_two_whole_halves_alpha_says_nothing(alpha: float) -> None:
    tensors = module((2, 3), (6, 4))
    assert measured(FORM, tensors).divisor is None
    np.testing.assert_array_equal(value(FORM, tensors, alpha), value(FORM, tensors))


def test_a_1x1_kernel_of_the_small_half_is_none() -> None:
    tensors = module((2, 3), (6, 4))
    with_kernel = tensors | {W1: tensors[W1].reshape(2, 3, 1, 1)}
    np.testing.assert_array_equal(value(FORM, with_kernel), value(FORM, tensors))


def test_any_of_its_tensors_makes_the_format() -> None:
    assert FORM.needed == frozenset()
    assert list(FORM.roles) == [W1, W1A, W1B, W2, W2A, W2B, T2]


@pytest.mark.parametrize(
    ("base", "missing", "text"),
    [
        (module((2, 3), (6, 4)), [W1], "without lokr_w1_a, lokr_w1_b"),
        (module((2, 3), (6, 4)), [W2], "without lokr_w2_a, lokr_w2_b"),
        (module((2, 3), (6, 4), (2, 2)), [W1A], "without lokr_w1_a"),
        (module((2, 3), (6, 4), (2, 2)), [W2B], "without lokr_w2_b"),
        (module((2, 3), (6, 4, 3, 3), (2, 2), core=True), [W2A, W2B], "without lokr_w2_a, lokr_w2_b"),
    ],
)
def test_a_missing_half_is_named(base: dict[str, torch.Tensor], missing: list[str], text: str) -> None:
    kept = {role: tensor for role, tensor in base.items() if role not in missing}
    assert refused(FORM, kept) == ("half-missing", text)


@pytest.mark.parametrize("role", [W1A, W1B, W2A, W2B, T2])
def test_a_half_that_is_there_twice_is_refused(role: str) -> None:
    tensors = module((2, 3), (6, 4)) | {role: torch.zeros(2, 2)}
    code, text = refused(FORM, tensors)
    assert code == "mixed-formats"
    assert text == f"lokr_w1 [2, 3], lokr_w2 [6, 4], {role[1:]} [2, 2]"


@pytest.mark.parametrize(
    ("base", "role", "shape", "code"),
    [
        (module((2, 3), (6, 4)), W1, (2,), "bad-factor-shape"),
        (module((2, 3), (6, 4)), W1, (2, 3, 3, 3), "bad-factor-shape"),
        (module((2, 3), (6, 4)), W2, (6,), "bad-factor-shape"),
        (module((2, 3), (6, 4)), W2, (6, 0), "bad-factor-shape"),
        (module((2, 3), (6, 4), (2, 2)), W1A, (2, 3), "ranks-disagree"),
        (module((2, 3), (6, 4), (2, 2)), W2B, (3, 4), "ranks-disagree"),
        (module((2, 3), (6, 4), (2, 2)), W2A, (6, 2, 3, 3), "bad-factor-shape"),
        (module((2, 3), (6, 4, 3, 3), (2, 2), core=True), T2, (2, 3, 3, 3), "ranks-disagree"),
        (module((2, 3), (6, 4, 3, 3), (2, 2), core=True), W2A, (3, 6), "ranks-disagree"),
        (module((2, 3), (6, 4, 3, 3), (2, 2), core=True), W2B, (2, 4, 3, 3), "bad-factor-shape"),
    ],
)
def test_shapes_that_no_module_has_are_refused(
    base: dict[str, torch.Tensor], role: str, shape: tuple[int, ...], code: str
) -> None:
    found, text = refused(FORM, base | {role: torch.zeros(shape)})
    assert found == code
    assert f"{role[1:]} {list(shape)}" in text
