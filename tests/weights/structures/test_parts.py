"""A structure taken apart and put together again is the same, tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from lorapipe.weights.structures.parts import put_together, take_apart
from lorapipe.weights.structures.structure import Loaded, LowRank
from tests.weights.sorts import SORTS, lokr


def again(structure: Loaded) -> tuple[Loaded, Mapping[str, Tensor]]:
    """Its plan through JSON, its tensors by name."""
    plan, tensors = take_apart(structure)
    return put_together(json.loads(json.dumps(plan)), tensors.__getitem__), tensors


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_every_sort_comes_back_with_its_own_tensors(sort: str, dtype: torch.dtype) -> None:
    structure = SORTS[sort](3, dtype).structure
    found, tensors = again(structure)
    assert type(found) is type(structure)
    assert (found.shape, found.rank) == (structure.shape, structure.rank)
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    before, after = take_apart(structure)[1], take_apart(found)[1]
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)


def test_rows_of_a_kronecker_product_come_back_as_those_rows() -> None:
    part = lokr((4, 3), (6, 4), (None, 2)).structure.rows(5, 17)
    found, _ = again(part)
    assert torch.equal(found.dense(torch.float64), part.dense(torch.float64))


def test_shape_and_rank_are_known_from_shapes_alone() -> None:
    for make in SORTS.values():
        structure = make(1, torch.float16).structure
        plan, tensors = take_apart(structure)
        found = put_together(plan, lambda name, held=tensors: held[name].to("meta"))  # type: ignore[misc]
        assert (found.shape, found.rank, found.plain) == (structure.shape, structure.rank, structure.plain)


@pytest.mark.parametrize("plan", ["matrix", ["hadamard", "low-rank"], ["kronecker"], [], {"dense": 1}])
def test_a_plan_of_nothing_is_refused(plan: object) -> None:
    with pytest.raises(ValueError, match="no structure"):
        put_together(plan, {}.__getitem__)  # type: ignore[arg-type]


def test_tensors_that_do_not_fit_are_refused() -> None:
    tensors = {"up": torch.eye(3), "down": torch.eye(2)}
    with pytest.raises(ValueError, match="no product"):
        put_together("low-rank", tensors.__getitem__)


def test_factors_are_named_as_they_always_were() -> None:
    assert list(take_apart(LowRank(torch.eye(2), torch.eye(2)))[1]) == ["up", "down"]
