"""Bytes and tensors are one another's inverse; a value is rounded once, to the nearest."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.specs import DTYPES, FLOATING, TensorSpec
from lorapipe.weights.tensors import TORCH_DTYPES, all_finite, from_bytes, round_to, to_bytes
from tests.weights.samples import to_numpy

Reals = npt.NDArray[np.float64]

HALVES = ["F16", "BF16", "F8_E4M3", "F8_E5M2"]


def grid(dtype: str) -> Reals:
    """Every finite value >= 0 of a dtype of at most 16 bits, rising; index parity is the last bit."""
    bits = TORCH_DTYPES[dtype].itemsize * 8
    codes = torch.arange(2 ** (bits - 1), dtype=torch.int32)
    same_size = codes.to(torch.int16 if bits == 16 else torch.uint8)
    values = to_numpy(same_size.view(TORCH_DTYPES[dtype]).to(torch.float32))
    return values[np.isfinite(values)]


def nearest(values: Reals, dtype: str) -> Reals:
    """Round to nearest, ties to even, by searching the dtype's grid: exact in float64."""
    points = grid(dtype)
    magnitudes = np.abs(values)
    above = np.clip(np.searchsorted(points, magnitudes), 1, len(points) - 1)
    below = above - 1
    down, up = magnitudes - points[below], points[above] - magnitudes
    pick = np.where((up < down) | ((up == down) & (above % 2 == 0)), above, below)
    return np.copysign(points[pick], values)


def near_ties(dtype: str, count: int = 20000) -> Reals:
    """Midpoints of the grid and their closest float64 and float32 neighbours, both signs."""
    points = grid(dtype)
    low = np.random.default_rng(0).integers(0, len(points) - 1, count)
    middle = (points[low] + points[low + 1]) / 2
    nudged = [middle, np.nextafter(middle, np.inf), np.nextafter(middle, 0)]
    nudged += [middle * (1 + 2.0**-k) for k in (26, 30, 40)] + [middle * (1 - 2.0**-k) for k in (26, 30, 40)]
    positive = np.concatenate(nudged)
    return np.concatenate([positive, -positive])


@pytest.mark.parametrize("dtype", HALVES)
def test_float64_is_rounded_once(dtype: str) -> None:
    values = near_ties(dtype)
    rounded = to_numpy(round_to(torch.from_numpy(values), dtype).tensor)
    np.testing.assert_array_equal(rounded, nearest(values, dtype))


def test_torch_itself_rounds_twice() -> None:
    """The reason for the care: should this fail one day, the care can go."""
    values = near_ties("F16")
    assert not np.array_equal(to_numpy(torch.from_numpy(values).to(torch.float16)), nearest(values, "F16"))


def test_the_reference_agrees_with_numpys_half() -> None:
    values = near_ties("F16")
    np.testing.assert_array_equal(nearest(values, "F16"), values.astype(np.float16).astype(np.float64))


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_ordinary_values_are_rounded_to_the_nearest(dtype: str) -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal(50000) * 10.0 ** rng.integers(-8, 4, 50000)
    rounded = round_to(torch.from_numpy(values.reshape(100, 500)), dtype).tensor
    np.testing.assert_array_equal(to_numpy(rounded), nearest(values, dtype).reshape(100, 500))


@pytest.mark.parametrize("dtype", HALVES)
def test_float32_is_rounded_once(dtype: str) -> None:
    values = near_ties(dtype).astype(np.float32)
    rounded = to_numpy(round_to(torch.from_numpy(values), dtype).tensor)
    np.testing.assert_array_equal(rounded, nearest(values.astype(np.float64), dtype))


def test_float64_to_float32_is_ieees() -> None:
    values = np.random.default_rng(2).standard_normal(10000)
    rounded = round_to(torch.from_numpy(values), "F32").tensor
    np.testing.assert_array_equal(rounded.numpy(), values.astype(np.float32))


def test_subnormal_halves_are_rounded_once() -> None:
    tie = 1.5 * 2.0**-24
    values = torch.tensor([tie, math.nextafter(tie, 0), math.nextafter(tie, 1)], dtype=torch.float64)
    assert (round_to(values, "F16").tensor.to(torch.float64) * 2.0**24).tolist() == [2.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("dtype", "largest", "beyond"),
    [
        ("F16", math.nextafter(65520.0, 0), 65520.0),
        ("BF16", math.nextafter((2 - 2**-8) * 2.0**127, 0), (2 - 2**-8) * 2.0**127),
        ("F32", math.nextafter((2 - 2**-24) * 2.0**127, 0), (2 - 2**-24) * 2.0**127),
        ("F8_E4M3", 464.0, math.nextafter(464.0, 500)),
        ("F8_E5M2", math.nextafter(61440.0, 0), 61440.0),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_finite_value_that_overflows_is_an_error(
    dtype: str, largest: float, beyond: float, sign: int
) -> None:
    fits = round_to(torch.tensor([0.0, sign * largest], dtype=torch.float64), dtype)
    assert bool(torch.isfinite(fits.tensor.to(torch.float64)).all())
    with pytest.raises(BuildError) as caught:
        round_to(torch.tensor([0.0, sign * beyond], dtype=torch.float64), dtype)
    assert (caught.value.code, caught.value.exit_status) == ("overflow", 5)
    assert "bf16" in str(caught.value.hint)


def test_the_overflow_message_says_value_and_type() -> None:
    with pytest.raises(BuildError) as caught:
        round_to(torch.tensor([1.0, -70000.0]), "F16")
    assert str(caught.value) == (
        "error: 7e+04 is beyond the range of F16 - save with dtype: bf16, whose range is that of fp32"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_what_is_not_finite_is_an_error(value: float, dtype: str) -> None:
    with pytest.raises(BuildError) as caught:
        round_to(torch.tensor([1.0, value, 2.0], dtype=torch.float64), dtype)
    assert caught.value.code == "not-finite"


def test_a_cast_can_pass_what_is_not_finite() -> None:
    values = torch.tensor([1.0, math.inf, math.nan])
    rounded = round_to(values, "F16", pass_non_finite=True).tensor
    assert rounded[0] == 1.0
    assert torch.isinf(rounded[1])
    assert torch.isnan(rounded[2])


def test_a_cast_that_passes_inf_still_reports_an_overflow() -> None:
    with pytest.raises(BuildError, match="beyond the range"):
        round_to(torch.tensor([1e5, math.inf]), "F16", pass_non_finite=True)


def test_values_that_become_zero_are_counted() -> None:
    rounded = round_to(torch.tensor([1e-9, 0.0, -1e-9, 1.0], dtype=torch.float64), "F16")
    assert rounded.underflowed == 2
    assert rounded.tensor.tolist() == [0.0, 0.0, 0.0, 1.0]
    assert math.copysign(1, rounded.tensor[2].item()) == -1


def test_the_same_dtype_is_the_same_tensor() -> None:
    values = torch.tensor([1.0, 2.0], dtype=torch.float16)
    assert round_to(values, "F16").tensor is values


def test_an_empty_tensor_is_rounded() -> None:
    assert round_to(torch.zeros(0, 3), "F16").tensor.shape == (0, 3)


def test_every_dtype_of_the_format_has_a_torch_dtype_of_its_size() -> None:
    assert {name: dtype.itemsize for name, dtype in TORCH_DTYPES.items()} == dict(DTYPES)


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 1, 1), (0, 3)])
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_bytes_become_the_tensor_that_they_came_from(dtype: str, shape: tuple[int, ...]) -> None:
    spec = TensorSpec(dtype, shape)
    data = bytearray(i % 2 for i in range(spec.nbytes))
    tensor = from_bytes(data, spec)
    assert (tensor.dtype, tuple(tensor.shape)) == (TORCH_DTYPES[dtype], shape)
    assert bytes(to_bytes(tensor)) == bytes(data)


def test_one_element_of_a_strided_tensor_has_its_bytes() -> None:
    strided = torch.arange(60.0)[::6][1:2]

    assert bytes(to_bytes(strided)) == torch.tensor([6.0]).numpy().tobytes()


def test_bytes_are_little_endian_and_row_major() -> None:
    tensor = from_bytes(bytearray(b"\x00\x00\x80\x3f" + b"\x00\x00\x00\x40"), TensorSpec("F32", (2,)))
    assert tensor.tolist() == [1.0, 2.0]
    assert bytes(to_bytes(torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).T)) == b"\x01\x03\x02\x04"


def test_a_buffer_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes do not make"):
        from_bytes(bytearray(3), TensorSpec("F32", (1,)))


@pytest.mark.parametrize("dtype", sorted(FLOATING))
def test_what_is_not_finite_is_told_from_the_largest_finite_value(dtype: str) -> None:
    torch_type = TORCH_DTYPES[dtype]
    largest = torch.finfo(torch_type).max
    fine = torch.tensor([0.0, -0.0, largest, -largest], dtype=torch.float64).to(torch_type)
    assert all_finite(fine)
    assert all_finite(fine[:0])
    specials = [float("nan")] if dtype == "F8_E4M3" else [float("nan"), float("inf"), float("-inf")]
    for bad in specials:
        for place in range(4):
            values = fine.clone()
            values[place] = torch.tensor(bad).to(torch_type)
            assert not all_finite(values)
            assert not all_finite(values.reshape(2, 2).T)


@pytest.mark.parametrize("dtype", sorted(FLOATING))
def test_one_nan_is_found_wherever_it_stands(dtype: str) -> None:
    """Vectors and their ends are looked at by other instructions, in which a NaN may lose a comparison."""
    for size in (1, 7, 64, 333):
        values = torch.arange(size, dtype=torch.float64).sub(size / 2).to(TORCH_DTYPES[dtype])
        assert all_finite(values)
        for place in range(size):
            damaged = values.clone()
            damaged[place] = torch.tensor(float("nan")).to(TORCH_DTYPES[dtype])
            assert not all_finite(damaged)
