"""How far one weight is from another, as numbers that add up over modules and blocks. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import hypot, inf

__all__ = ["Distance", "total"]


@dataclass(frozen=True, slots=True)
class Distance:
    """The Frobenius norms of an old weight, of a new one and of their difference.

    >>> one = Distance(old=5.0, new=5.0, apart=6.0)
    >>> one.relative, round(one.cosine, 12)
    (1.2, 0.28)
    """

    old: float = 0.0
    new: float = 0.0
    apart: float = 0.0

    @property
    def relative(self) -> float:
        """``||A - B|| / ||A||``; infinite where something came out of nothing, 0 where nothing changed."""
        if self.apart == 0.0:
            return 0.0
        return self.apart / self.old if self.old else inf

    @property
    def cosine(self) -> float | None:
        """``<A, B> / (||A|| ||B||)``, from ``||A - B||^2 = ||A||^2 + ||B||^2 - 2 <A, B>``.

        ``None`` where one is nothing or infinite. *Numerics*: off by about ``eps`` times
        the ratio of the norms.
        """
        if not all(0.0 < norm < inf for norm in (self.old, self.new)) or self.apart == inf:
            return None
        # In units of each norm: squares of what is tiny or huge would leave the range.
        ratio = self.old / self.new
        apart = (self.apart / self.old) * (self.apart / self.new)
        return max(-1.0, min(1.0, (ratio + 1.0 / ratio - apart) / 2.0))


def total(distances: Iterable[Distance]) -> Distance:
    """Of several weights as one long vector."""
    found = list(distances)
    return Distance(*(hypot(*(getattr(one, name) for one in found)) for name in ("old", "new", "apart")))
