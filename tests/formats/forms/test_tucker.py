"""A module with ``lora_mid`` is three convolutions in a row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.formats.forms.tucker import FORM

from .kit import DTYPES, Array, array, measured, numbers, refused, value

UP, MID, DOWN = ".lora_up.weight", ".lora_mid.weight", ".lora_down.weight"


def module(
    out: int,
    into: int,
    kernel: tuple[int, ...],
    rank: int,
    *,
    dtype: torch.dtype = torch.float32,
    ones: bool = True,
) -> dict[str, torch.Tensor]:
    """``ones``: up and down are convolutions of a 1x1 kernel, as a trainer saves them."""
    tail = tuple(1 for _ in kernel) if ones else ()
    return numbers(
        3,
        dtype,
        lora_down__weight=(rank, into, *tail),
        lora_mid__weight=(rank, rank, *kernel),
        lora_up__weight=(out, rank, *tail),
    )


def formula(tensors: dict[str, torch.Tensor], alpha: float | None) -> Array:
    up, mid, down = (array(tensors[role]) for role in (UP, MID, DOWN))
    rank = down.shape[0]
    product = np.einsum("mn...,om,ni->oi...", mid, up.reshape(-1, rank), down.reshape(rank, -1))
    return (1.0 if alpha is None else alpha / rank) * product


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([(), (1, 1), (3, 3), (1, 5), (3,), (2, 3, 2)]),
    st.integers(1, 6),
    st.sampled_from(DTYPES),
    st.booleans(),
    st.sampled_from([None, 0.5, 4.0]),
)
def test_the_delta_is_the_formula(
    out: int,
    into: int,
    kernel: tuple[int, ...],
    rank: int,
    dtype: torch.dtype,
    ones: bool,
    alpha: float | None,
) -> None:
    tensors = module(out, into, kernel, rank, dtype=dtype, ones=ones)
    expected = formula(tensors, alpha)
    np.testing.assert_allclose(value(FORM, tensors, alpha), expected, rtol=1e-12, atol=1e-12)


def test_it_is_what_torchs_convolutions_do() -> None:
    tensors = module(6, 5, (3, 3), 4, dtype=torch.float64)
    image = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 5, 7, 8)))
    through = torch.conv2d(torch.conv2d(image, tensors[DOWN]), tensors[MID], padding=1)
    expected = torch.conv2d(through, tensors[UP])
    found = torch.conv2d(image, torch.from_numpy(value(FORM, tensors)), padding=1)
    np.testing.assert_allclose(array(found), array(expected), rtol=1e-11, atol=1e-11)


def test_shape_rank_and_divisor_come_from_the_shapes() -> None:
    known = measured(FORM, module(12, 5, (3, 3), 4))
    assert (known.shape, known.rank, known.divisor) == ((12, 5, 3, 3), 4, 4)
    assert measured(FORM, module(3, 5, (3, 3), 4)).rank == 3


def test_the_middle_is_what_makes_the_format() -> None:
    assert FORM.needed == {MID}
    assert list(FORM.roles) == [DOWN, MID, UP]
    assert FORM.additive
    assert not FORM.plain


@pytest.mark.parametrize(
    ("shapes", "code", "text"),
    [
        ({UP: None}, "half-missing", "without lora_up"),
        ({UP: None, DOWN: None}, "half-missing", "without lora_up, lora_down"),
        ({UP: (12, 3)}, "ranks-disagree", "lora_down [4, 5], lora_mid [4, 4, 3, 3], lora_up [12, 3]"),
        ({DOWN: (3, 5)}, "ranks-disagree", "lora_down [3, 5], lora_mid [4, 4, 3, 3], lora_up [12, 4]"),
        ({MID: (4, 3, 3, 3)}, "ranks-disagree", "lora_down [4, 5], lora_mid [4, 3, 3, 3], lora_up [12, 4]"),
        (
            {MID: (4, 3, 3, 3), DOWN: (3, 5)},
            "ranks-disagree",
            "lora_down [3, 5], lora_mid [4, 3, 3, 3], lora_up [12, 4]",
        ),
        ({UP: (12,)}, "bad-factor-shape", "lora_up [12]"),
        ({UP: (12, 4, 3, 3)}, "bad-factor-shape", "lora_up [12, 4, 3, 3]"),
        ({DOWN: (4, 5, 3, 3)}, "bad-factor-shape", "lora_down [4, 5, 3, 3]"),
        ({DOWN: (4, 0)}, "bad-factor-shape", "lora_down [4, 0]"),
        ({MID: (4,)}, "bad-factor-shape", "lora_mid [4]"),
        ({MID: (4, 4, 0, 3)}, "bad-factor-shape", "lora_mid [4, 4, 0, 3]"),
    ],
)
def test_shapes_that_no_module_has_are_named(
    shapes: dict[str, tuple[int, ...] | None], code: str, text: str
) -> None:
    tensors = module(12, 5, (3, 3), 4, ones=False)
    for role, shape in shapes.items():
        tensors[role] = torch.zeros(shape or ())
    kept = {role: tensor for role, tensor in tensors.items() if shapes.get(role, ()) is not None}
    assert refused(FORM, kept) == (code, text)
