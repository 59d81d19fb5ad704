"""The two simple structures: factors, and a matrix that is nothing but its numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.weights.structures.structure import Dense, LowRank, negated, times
from tests.weights.samples import factors, to_numpy
from tests.weights.sorts import numbers

F64 = torch.float64


def test_dense_is_the_product_or_the_matrix() -> None:
    pair, matrix = factors((6, 5), 3, 1, torch.float16), numbers((6, 5), 2, torch.float16)
    np.testing.assert_allclose(
        to_numpy(pair.dense(F64)), to_numpy(pair.up) @ to_numpy(pair.down), rtol=1e-13, atol=1e-13
    )
    assert torch.equal(Dense(matrix).dense(F64), matrix.double())


def test_two_factors_are_plain_and_of_any_rank_a_matrix_is_neither() -> None:
    pair, matrix = factors((6, 5), 9, 1), Dense(numbers((6, 5), 2))
    assert (pair.plain, pair.rank, pair.shape) == (True, 9, (6, 5))
    assert (matrix.plain, matrix.rank, matrix.shape) == (False, 5, (6, 5))
    assert Dense(numbers((6, 1), 2)).rank == 1


@pytest.mark.parametrize("shape", [(6, 5), (5, 6), (4, 4), (7, 1), (1, 7)])
def test_the_factors_of_a_matrix_are_it_beside_the_smaller_identity(shape: tuple[int, int]) -> None:
    matrix = numbers(shape, 3)
    found = Dense(matrix).factors(F64)
    assert found.rank == min(shape)
    assert torch.equal(found.up @ found.down, matrix.double())
    assert found.up.numel() + found.down.numel() == shape[0] * shape[1] + min(shape) ** 2


def test_rows_and_the_transpose_copy_nothing() -> None:
    matrix = numbers((6, 5), 2)
    for part in (Dense(matrix).rows(2, 4), Dense(matrix).transposed()):
        assert part.matrix.untyped_storage().data_ptr() == matrix.untyped_storage().data_ptr()
    assert torch.equal(Dense(matrix).rows(2, 4).matrix, matrix[2:4])
    assert torch.equal(Dense(matrix).transposed().rows(1, 3).matrix, matrix.T[1:3])


def test_a_matrix_has_two_axes() -> None:
    with pytest.raises(ValueError, match=r"a tensor \[3, 2, 1\] is no matrix"):
        Dense(torch.zeros(3, 2, 1))


@pytest.mark.parametrize("coefficient", [1.0, 0.7, -0.7])
def test_written_factors_are_the_sources_with_the_strength_in_alpha(coefficient: float) -> None:
    pair = factors((6, 5), 4, 1, torch.float16)
    written = pair.written(coefficient)
    up, down = written.tensors[".lora_up.weight"], written.tensors[".lora_down.weight"]
    assert written.alpha == abs(coefficient) * 4
    assert down is pair.down
    assert torch.equal(up, pair.up if coefficient > 0 else -pair.up)


def test_a_written_matrix_has_its_coefficient_in_it() -> None:
    matrix = numbers((6, 5), 2, torch.bfloat16)
    assert Dense(matrix).written(1.0).tensors[".diff"] is matrix
    half = Dense(matrix).written(0.3)
    assert (half.tensors[".diff"].dtype, half.alpha) == (F64, None)
    assert torch.equal(half.tensors[".diff"], 0.3 * matrix.double())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, F64], ids=str)
def test_signs_turn_exactly_in_every_type(dtype: torch.dtype) -> None:
    values = numbers((40,), 4).to(dtype)
    for turned in (negated(values), times(values, -1.0)):
        assert turned.dtype == dtype
        assert torch.equal(turned.double(), -values.double())


def test_structures_move_with_all_they_have() -> None:
    pair = factors((6, 5), 3, 1).to("meta")
    assert (pair.up.device.type, pair.down.device.type) == ("meta", "meta")
    assert Dense(numbers((6, 5), 2)).to("meta").matrix.device.type == "meta"


def test_what_is_in_memory_loads_as_itself() -> None:
    pair, matrix = LowRank(torch.eye(2), torch.eye(2)), Dense(torch.eye(2))
    assert pair.load() is pair
    assert matrix.load() is matrix
