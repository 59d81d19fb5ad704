"""Factors that stay in their file until they are used, and are read anew for each use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lorapipe.weights.delta import LowRank

__all__ = ["LazyFactors"]


@dataclass(frozen=True, slots=True, eq=False)
class LazyFactors:
    """A product of shape ``(O, I*k)`` and rank ``rank``, whose factors ``read`` gives.

    Every :meth:`load` reads; so a LoRA's modules are in memory only while a worker is at
    them, and what a build holds does not grow with the files it reads. ``read`` must be
    safe to call from several threads and give equal factors each time.
    """

    shape: tuple[int, int]
    rank: int
    read: Callable[[], LowRank]

    def load(self) -> LowRank:
        """The factors, read now. Raises what ``read`` raises."""
        return self.read()

    def rows(self, start: int, stop: int) -> LazyFactors:
        """Rows ``[start, stop)`` of the product."""
        return LazyFactors((stop - start, self.shape[1]), self.rank, lambda: self.read().rows(start, stop))

    def transposed(self) -> LazyFactors:
        """The product's transpose."""
        out, columns = self.shape
        return LazyFactors((columns, out), self.rank, lambda: self.read().transposed())
