"""DoRA: a delta of any format, and lengths along the axis that the shape of ``dora_scale`` tells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lorapipe.formats.forms.dora import FORM

from .kit import DTYPES, Array, array, measured, numbers, refused
from .operators import close, made, weight

EPS = 2.0**-23


def formula(w: Array, delta: Array, scale: Array, *, on_input: bool) -> Array:
    """``V m / (norm(V) + eps)``, V = W + delta, as LyCORIS trains it."""
    v = w + delta.reshape(w.shape)
    if on_input:
        norm = np.sqrt((v.swapaxes(0, 1).reshape(v.shape[1], -1) ** 2).sum(1))
        return np.stack([v[:, i] * scale.ravel()[i] / (norm[i] + EPS) for i in range(v.shape[1])], axis=1)
    norm = np.sqrt((v.reshape(len(v), -1) ** 2).sum(1))
    return np.stack([v[o] * scale.ravel()[o] / (norm[o] + EPS) for o in range(len(v))])


def lora(
    out: int, columns: tuple[int, ...], scale: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    kernel = tuple(1 for _ in columns[1:])
    return numbers(
        1, dtype, lora_up__weight=(out, 3, *kernel), lora_down__weight=(3, *columns), dora_scale=scale
    )


def product(tensors: dict[str, Tensor]) -> Array:
    up, down = array(tensors[".lora_up.weight"]), array(tensors[".lora_down.weight"])
    return up.reshape(len(up), -1) @ down.reshape(len(down), -1)


@given(
    st.integers(2, 9),
    st.sampled_from([(7,), (5, 1, 1), (4, 3, 3)]),
    st.sampled_from(DTYPES),
    st.sampled_from([None, 0.75, 6.0]),
    st.booleans(),
)
def test_both_axes(
    out: int, columns: tuple[int, ...], dtype: torch.dtype, alpha: float | None, on_input: bool
) -> None:
    ones = tuple(1 for _ in columns[1:])
    scale = (1, columns[0], *ones) if on_input else (out, 1, *ones)
    tensors, w = lora(out, columns, scale, dtype), weight(out, *columns)
    s = 1.0 if alpha is None else alpha / 3
    expected = formula(w, s * product(tensors), array(tensors[".dora_scale"]), on_input=on_input)
    close(made(FORM, tensors, w, alpha), expected)


@pytest.mark.parametrize(("scale", "on_input"), [((6, 1), False), ((6,), False), ((1, 6), True)])
def test_of_a_square_weight_the_axis_is_told_by_where_the_one_stands(
    scale: tuple[int, ...], on_input: bool
) -> None:
    tensors, w = lora(6, (6,), scale), weight(6, 6)
    assert measured(FORM, tensors).cuts == (() if on_input else ((6, 1),))
    expected = formula(w, product(tensors), array(tensors[".dora_scale"]), on_input=on_input)
    close(made(FORM, tensors, w), expected)


def test_rows_of_a_weight_of_one_row_are_rows() -> None:
    assert measured(FORM, lora(1, (6,), (1, 1))).cuts == ((1, 1),)


def test_strength_interpolates() -> None:
    tensors, w = lora(5, (4,), (5, 1)), weight(5, 4)
    full = formula(w, product(tensors), array(tensors[".dora_scale"]), on_input=False)
    close(made(FORM, tensors, w, strength=0.25), 0.75 * w + 0.25 * full)


def loha() -> dict[str, Tensor]:
    half = {"hada_w1_a": (6, 2), "hada_w1_b": (2, 36), "hada_w2_a": (6, 2), "hada_w2_b": (2, 36)}
    return numbers(3, **half)


def lokr() -> dict[str, Tensor]:
    return numbers(4, lokr_w1=(2, 2), lokr_w2_a=(3, 2), lokr_w2_b=(2, 18))


def tucker() -> dict[str, Tensor]:
    return numbers(5, lora_up__weight=(6, 2), lora_mid__weight=(2, 2, 3, 3), lora_down__weight=(2, 4))


def delta_of(name: str, tensors: dict[str, Tensor]) -> Array:
    """The formats' own formulas, for a weight [6, 4, 3, 3]."""
    held = {role[1:]: array(tensor) for role, tensor in tensors.items()}
    if name == "LoHa":
        return (held["hada_w1_a"] @ held["hada_w1_b"]) * (held["hada_w2_a"] @ held["hada_w2_b"])
    if name == "LoKr":
        return np.kron(held["lokr_w1"], held["lokr_w2_a"] @ held["lokr_w2_b"])
    parts = held["lora_mid.weight"], held["lora_up.weight"], held["lora_down.weight"]
    return np.einsum("mnkl,om,ni->oikl", *parts)


@pytest.mark.parametrize(("name", "inner"), [("LoHa", loha()), ("LoKr", lokr()), ("Tucker", tucker())])
@pytest.mark.parametrize("on_input", [False, True])
def test_around_every_format_with_factors(name: str, inner: dict[str, Tensor], on_input: bool) -> None:
    scale = numbers(6, dora_scale=(1, 4, 1, 1) if on_input else (6, 1, 1, 1))
    w = weight(6, 4, 3, 3)
    expected = formula(w, 1.5 * delta_of(name, inner), array(scale[".dora_scale"]), on_input=on_input)
    close(made(FORM, {**inner, **scale}, w, 3.0), expected)


def test_alpha_counts_for_nothing_around_a_kronecker_product_of_whole_halves() -> None:
    tensors = numbers(4, lokr_w1=(2, 2), lokr_w2=(3, 18), dora_scale=(6, 1, 1, 1))
    w = weight(6, 4, 3, 3)
    assert measured(FORM, tensors).divisor is None
    delta = np.kron(array(tensors[".lokr_w1"]), array(tensors[".lokr_w2"]))
    expected = formula(w, delta, array(tensors[".dora_scale"]), on_input=False)
    close(made(FORM, tensors, w, float("inf")), expected)


@pytest.mark.parametrize(
    ("scale", "text"),
    [
        ((5, 1), "dora_scale [5, 1]"),
        ((1, 6), "dora_scale [1, 6]"),
        ((6, 4), "dora_scale [6, 4]"),
        ((1,), "dora_scale [1]"),
        ((), "dora_scale []"),
    ],
)
def test_lengths_of_neither_axis_are_refused(scale: tuple[int, ...], text: str) -> None:
    code, found = refused(FORM, lora(6, (4,), scale))
    assert code == "bad-factor-shape"
    assert text in found


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        (numbers(1, dora_scale=(6, 1)), ("half-missing", "without a delta")),
        (
            numbers(1, dora_scale=(6, 1), lora_up__weight=(6, 2)),
            ("half-missing", "lora_up [6, 2]"),
        ),
        (
            numbers(1, dora_scale=(6, 1), lora_up__weight=(6, 2), hada_w1_a=(6, 2)),
            ("mixed-formats", "lora_up [6, 2], hada_w1_a [6, 2]"),
        ),
        (
            numbers(1, dora_scale=(6, 1), lora_up__weight=(6, 2), lora_down__weight=(3, 4)),
            ("ranks-disagree", "up [6, 2], down [3, 4]"),
        ),
    ],
)
def test_a_delta_that_is_none_is_refused(tensors: dict[str, Tensor], problem: tuple[str, str]) -> None:
    assert refused(FORM, tensors) == problem
