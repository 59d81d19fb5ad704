"""How far merges move a weight, as numbers. Torch-free: views draw them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import hypot, inf

__all__ = ["Shift", "together"]


@dataclass(frozen=True, slots=True)
class Shift:
    """The Frobenius norms of what is added to a weight, ``delta``, and of the ``weight`` as it was.

    >>> Shift(3.0, 60.0).relative
    0.05
    """

    delta: float
    weight: float

    @property
    def relative(self) -> float:
        """``norm(dW) / norm(W)``; infinite where there was nothing, 0 where nothing came to it."""
        if not self.delta:
            return 0.0
        return self.delta / self.weight if self.weight else inf


def together(shifts: Iterable[Shift]) -> Shift:
    """The shift of several weights as one long vector.

    >>> together([Shift(3.0, 30.0), Shift(4.0, 40.0)])
    Shift(delta=5.0, weight=50.0)
    """
    found = list(shifts)
    return Shift(hypot(*(one.delta for one in found)), hypot(*(one.weight for one in found)))
