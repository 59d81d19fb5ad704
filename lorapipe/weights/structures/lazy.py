"""Structures that stay in their file until they are used, and are read anew for each use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lorapipe.weights.structures.structure import Loaded, LowRank

__all__ = ["Lazy", "chosen", "leading"]


@dataclass(frozen=True, slots=True, eq=False)
class Lazy:
    """A matrix of shape ``(O, I*k)`` and at most ``rank``, which ``read`` gives.

    Every :meth:`load` reads; so a LoRA's modules are in memory only while a worker is at
    them, and what a build holds does not grow with the files it reads. ``read`` must be
    safe to call from several threads and give equal values each time.
    """

    shape: tuple[int, int]
    rank: int
    read: Callable[[], Loaded]
    plain: bool = True

    def load(self) -> Loaded:
        """The structure, read now. Raises what ``read`` raises."""
        return self.read()

    def rows(self, start: int, stop: int) -> Lazy:
        """Rows ``[start, stop)`` of the matrix."""
        shape = (stop - start, self.shape[1])
        rank = self.rank if self.plain else min(self.rank, *shape)
        return Lazy(shape, rank, lambda: self.read().rows(start, stop), self.plain)

    def transposed(self) -> Lazy:
        """The matrix's transpose."""
        out, columns = self.shape
        return Lazy((columns, out), self.rank, lambda: self.read().transposed(), self.plain)


def leading(factors: LowRank | Lazy, rank: int) -> LowRank | Lazy:
    """The product of the first ``rank`` components of two factors, in memory or in their file."""
    return chosen(factors, range(rank))


def chosen(factors: LowRank | Lazy, places: Sequence[int]) -> LowRank | Lazy:
    """The product of some components of two factors, in memory or in their file; ``places`` ascend."""
    if factors.rank == len(places):
        return factors
    if isinstance(factors, LowRank):
        return _chosen(factors, places)

    def read() -> LowRank:
        loaded = factors.load()
        assert isinstance(loaded, LowRank)
        return _chosen(loaded, places)

    return Lazy(factors.shape, len(places), read)


def _chosen(factors: LowRank, places: Sequence[int]) -> LowRank:
    # Views where they can be: copies would come beside what the workers' heaps do not give back (measured).
    first = not places or places[-1] < len(places)
    at = slice(len(places)) if first else list(places)
    return LowRank(factors.up[:, at], factors.down[at])
