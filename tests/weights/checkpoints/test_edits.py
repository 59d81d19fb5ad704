"""Where workers may part a tensor with edits."""

from __future__ import annotations

import pytest
import torch

from lorapipe.weights.checkpoints import edits as under_test
from lorapipe.weights.checkpoints.edits import Edit, operated, slabs
from lorapipe.weights.inference.cuts import ANYWHERE, NOWHERE, Cuts
from lorapipe.weights.operators.ia3 import IA3
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.specs import ModuleId, TensorSpec
from tests.weights.samples import delta

MODULE = ModuleId("", "x")
SPEC = TensorSpec("F16", (12, 5))


def operator(cuts: Cuts, start: int = 0, stop: int = 12) -> Edit:
    value = Operated((stop - start, 5), 1.0, lambda: IA3(torch.ones(stop - start), on_input=False))
    return Edit(MODULE, start, stop, value, cuts=cuts)


def plain(start: int = 0, stop: int = 12) -> Edit:
    return Edit(MODULE, start, stop, delta((stop - start, 5), (1.0, 1)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slabs of an operator's tensor hold three rows of five."""
    monkeypatch.setattr(under_test, "OPERATED_ELEMENTS", 17)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([operator(ANYWHERE)], [(0, 3), (3, 6), (6, 9), (9, 12)]),
        ([operator(((12, 2),))], [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 12)]),
        ([operator(((12, 4),))], [(0, 4), (4, 8), (8, 12)]),
        ([operator(NOWHERE)], [(0, 12)]),
        ([operator(NOWHERE, 4, 9)], [(0, 3), (3, 4), (4, 9), (9, 12)]),
        ([operator(((6, 3),), 1, 7), plain()], [(0, 1), (1, 4), (4, 7), (7, 10), (10, 12)]),
        ([operator(((12, 2),)), operator(((12, 3),))], [(0, 6), (6, 12)]),
        ([operator(((4, 2), (8, 8)))], [(0, 2), (2, 4), (4, 12)]),
    ],
)
def test_slabs_end_where_every_operator_may_be_parted(
    edits: list[Edit], expected: list[tuple[int, int]]
) -> None:
    assert list(slabs(SPEC, edits)) == expected


@pytest.mark.usefixtures("small")
def test_deltas_alone_have_the_slabs_that_they_had() -> None:
    assert list(slabs(SPEC, [plain()])) == [(0, 12)]


@pytest.mark.parametrize("shape", [(), (0, 5)])
def test_a_single_number_is_one_row_and_an_empty_tensor_one_empty_slab(shape: tuple[int, ...]) -> None:
    height = 0 if shape else 1
    assert list(slabs(TensorSpec("F16", shape), [operator(NOWHERE, 0, height)])) == [(0, height)]


def test_a_delta_may_be_parted_anywhere() -> None:
    assert all(plain(2, 8).parted_at(row) for row in range(13))
    assert [row for row in range(13) if not operator(NOWHERE, 2, 8).parted_at(row)] == [3, 4, 5, 6, 7]


def test_edits_know_whether_one_of_them_is_an_operator() -> None:
    assert operated([plain(), operator(ANYWHERE)])
    assert not operated([plain()])
