"""Matrices put away as factors are: what keeps a build's memory small knows factors only."""

from __future__ import annotations

from lorapipe.weights.each import PutAway
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.structure import Dense, LowRank

__all__ = ["put_dense_away"]


def put_dense_away(dense: Dense, put_away: PutAway) -> Dense | Lazy:
    """A finished module's matrix out of memory, where that is needed: as if it were a factor."""
    matrix = dense.matrix
    away = put_away(LowRank(matrix, matrix.new_empty(matrix.shape[1], 0)))
    if isinstance(away, LowRank):
        return dense

    def read() -> Dense:
        loaded = away.load()
        assert isinstance(loaded, LowRank)
        return Dense(loaded.up)

    return Lazy(dense.shape, dense.rank, read, plain=False)
