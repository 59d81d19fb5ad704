"""Matrices that are put away as factors are."""

from __future__ import annotations

import torch

from lorapipe.weights.each import in_memory
from lorapipe.weights.structures.away import put_dense_away
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.structure import Dense
from tests.weights.samples import Away


def test_a_matrix_comes_back_whole_and_by_rows() -> None:
    dense, away = Dense(torch.arange(12.0).reshape(3, 4)), Away()
    found = put_dense_away(dense, away)
    assert isinstance(found, Lazy)
    assert (found.shape, found.rank, found.plain) == ((3, 4), 3, False)
    assert torch.equal(found.load().dense(torch.float32), dense.matrix)
    assert torch.equal(found.rows(1, 3).load().dense(torch.float32), dense.matrix[1:3])
    assert sum(factors.up.numel() + factors.down.numel() for factors in away.kept) == 12


def test_one_that_stays_in_memory_is_the_same() -> None:
    dense = Dense(torch.ones(2, 2))
    assert put_dense_away(dense, in_memory) is dense
