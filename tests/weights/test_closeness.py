"""How far two tensors are apart: counted and measured as numpy counts and measures it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lorapipe.weights.closeness import Closeness, closeness

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


def values_of(dtype: torch.dtype) -> list[float]:
    """Every finite value of a type of at most two bytes, in order, 0 once."""
    bits = {1: torch.uint8, 2: torch.int16}[torch.empty(0, dtype=dtype).element_size()]
    whole = torch.arange(0, 256, dtype=torch.int32).to(torch.uint8)
    if bits is torch.int16:
        whole = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    found = whole.view(dtype).double()
    return sorted(set(found[found.isfinite()].tolist()))


@pytest.mark.parametrize("dtype", FLOATS[2:])
def test_the_last_places_are_counted_as_the_values_of_the_type_lie(dtype: torch.dtype) -> None:
    values = values_of(dtype)
    places = range(0, len(values), max(1, len(values) // 97))
    for place in places:
        for step in (1, 2, len(values) // 3):
            other = min(place + step, len(values) - 1)
            if values[place] == values[other]:
                continue
            pair = [torch.tensor([values[n]], dtype=torch.float64).to(dtype) for n in (place, other)]
            assert closeness(pair[0], pair[1]).max_ulps == other - place


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neighbours_are_one_place_apart_and_zeros_none(dtype: torch.dtype) -> None:
    numbers = torch.tensor([1.0, -1.0, 0.0, 2.0**-1022, 3.5e10], dtype=dtype)
    up = torch.nextafter(numbers, torch.full_like(numbers, math.inf))
    assert closeness(numbers, up).max_ulps == 1
    found = closeness(torch.tensor([0.0], dtype=dtype), torch.tensor([-0.0], dtype=dtype))
    assert found == Closeness(1, 1, 0.0, 0.0, 0.0)


def test_doubles_far_apart_do_not_overflow_the_count() -> None:
    far = torch.tensor([1e300], dtype=torch.float64)
    place = int(np.array([1e300]).view(np.int64)[0])
    assert closeness(-far, far).max_ulps == pytest.approx(2 * place)


@given(
    arrays(np.float32, 7, elements=st.floats(-1e6, 1e6, width=32)),
    arrays(np.float32, 7, elements=st.floats(-1e6, 1e6, width=32)),
)
def test_counts_and_differences_are_those_of_numpy(a: Any, b: Any) -> None:
    found = closeness(torch.from_numpy(a), torch.from_numpy(b))

    differs = a.view(np.int32) != b.view(np.int32)
    wide, other = a.astype(np.float64), b.astype(np.float64)
    apart = np.abs(wide - other)
    largest = np.maximum(np.abs(wide), np.abs(other))
    relative = np.divide(apart, largest, out=np.zeros(7), where=largest > 0)
    assert (found.values, found.differing) == (7, differs.sum())
    assert (found.max_abs, found.max_rel) == (apart.max(), relative.max())


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_is_infinitely_far(odd: float, dtype: torch.dtype) -> None:
    numbers = torch.tensor([1.0, 2.0], dtype=dtype)
    other = torch.tensor([1.0, odd], dtype=dtype)
    assert closeness(numbers, other) == Closeness(2, 1, math.inf, math.inf, math.inf)
    assert closeness(other, other.clone()) == Closeness(2)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.uint16, torch.bool])
def test_whole_numbers_are_apart_by_their_difference(dtype: torch.dtype) -> None:
    found = closeness(torch.tensor([0, 1], dtype=dtype), torch.tensor([1, 1], dtype=dtype))
    assert found == Closeness(2, 1, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3)])
def test_any_shape_is_compared(shape: tuple[int, ...]) -> None:
    ones = torch.ones(shape)
    assert closeness(ones, ones.clone()) == Closeness(ones.numel())
    assert closeness(ones, ones * 2).differing == ones.numel()


def test_parts_of_a_tensor_add_up_to_the_whole() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(40, 3, generator=generator) for _ in range(2))
    parts = [closeness(a[n : n + 7], b[n : n + 7]) for n in range(0, 40, 7)]
    assert sum(parts, start=Closeness(0)) == closeness(a, b)


def test_tensors_of_other_types_or_shapes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="is not compared with"):
        closeness(torch.zeros(2), torch.zeros(2).half())
    with pytest.raises(ValueError, match="is not compared with"):
        closeness(torch.zeros(2), torch.zeros(3))
