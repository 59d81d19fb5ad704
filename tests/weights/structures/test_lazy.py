"""Factors in a file are those in memory, but for when they are read."""

from __future__ import annotations

import pytest
import torch

from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy, chosen, leading
from lorapipe.weights.structures.structure import LowRank
from tests.weights.samples import factors
from tests.weights.sorts import SORTS


class Shelf:
    """A pair of factors that counts how often it is taken."""

    def __init__(self, pair: LowRank) -> None:
        self.pair = pair
        self.taken = 0

    def take(self) -> LowRank:
        self.taken += 1
        return self.pair


def lazy(out: int = 6, into: int = 5, rank: int = 3) -> tuple[Shelf, Lazy]:
    shelf = Shelf(factors((out, into), rank, seed=1))
    return shelf, Lazy((out, into), rank, shelf.take)


def test_nothing_is_read_until_the_numbers_are_used() -> None:
    shelf, factors_ = lazy()

    value = Delta((6, 5), (Term(0.5, factors_),)).scaled(-2.0)
    joined = value.joined(value.rows(0, 6))

    assert (joined.rank, joined.shape, joined.magnitude) == (6, (6, 5), 1.0)
    assert shelf.taken == 0
    value.dense(torch.float64)
    assert shelf.taken == 1


def test_rows_and_transpose_are_those_of_the_factors_in_memory() -> None:
    shelf, factors_ = lazy()
    in_memory = Delta((6, 5), (Term(0.5, shelf.pair),))
    from_file = Delta((6, 5), (Term(0.5, factors_),))

    for one, two in (
        (in_memory, from_file),
        (in_memory.rows(1, 4), from_file.rows(1, 4)),
        (in_memory.transposed(), from_file.transposed()),
        (in_memory.transposed().rows(2, 5), from_file.transposed().rows(2, 5)),
    ):
        assert one.shape == two.shape
        assert torch.equal(one.dense(torch.float64), two.dense(torch.float64))
        assert torch.equal(one.folded(torch.float64).factors.down, two.folded(torch.float64).factors.down)


def test_each_use_reads_anew_so_that_nothing_is_held() -> None:
    shelf, factors_ = lazy()

    factors_.load()
    factors_.rows(0, 2).load()
    factors_.transposed().load()

    assert shelf.taken == 3


def test_of_other_structures_rows_have_no_more_than_their_full_rank() -> None:
    """As the structures in memory have it, so that specs tell ranks without reading."""
    for sort, make in SORTS.items():
        structure = make(1, torch.float32).structure
        lazily = Lazy(structure.shape, structure.rank, lambda held=structure: held, plain=False)  # type: ignore[misc]
        for start, stop in ((0, 1), (1, 4), (0, structure.shape[0])):
            part = lazily.rows(start, stop)
            assert (part.rank, part.shape) == (structure.rows(start, stop).rank, part.load().shape), sort
            assert not part.plain
    shelf, factors_ = lazy(rank=4)
    assert factors_.rows(0, 2).rank == shelf.pair.rows(0, 2).rank == 4


def test_the_leading_components_are_views_of_the_factors_and_read_when_used() -> None:
    factors = LowRank(torch.arange(12.0).reshape(4, 3), torch.arange(6.0).reshape(3, 2))
    first = leading(factors, 2)
    assert isinstance(first, LowRank)
    assert first.up.data_ptr() == factors.up.data_ptr()
    assert torch.equal(first.down, factors.down[:2])
    assert leading(factors, 3) is factors

    reads: list[int] = []

    def read() -> LowRank:
        reads.append(1)
        return factors

    later = leading(Lazy((4, 2), 3, read), 2)
    assert (later.shape, later.rank, reads) == ((4, 2), 2, [])
    assert torch.equal(later.load().factors(torch.float64).up, factors.up[:, :2].double())
    assert reads == [1]


@pytest.mark.parametrize("places", [(0, 2), (1, 2), (2,), (0,), ()])
def test_any_components_are_chosen_now_or_when_they_are_read(places: tuple[int, ...]) -> None:
    factors = LowRank(torch.arange(12.0).reshape(4, 3), torch.arange(6.0).reshape(3, 2))
    for one in (factors, Lazy((4, 2), 3, lambda: factors)):
        found = chosen(one, places)
        assert found.rank == len(places)
        read = found.load()
        assert isinstance(read, LowRank)
        assert torch.equal(read.up, factors.up[:, list(places)])
        assert torch.equal(read.down, factors.down[list(places)])
    assert chosen(factors, (0, 1, 2)) is factors
