"""What is measured of one module's delta, as numbers. Torch-free: views draw them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from math import hypot, nan

__all__ = ["Figures", "pooled", "together"]


@dataclass(frozen=True, slots=True)
class Figures:
    """The singular values of a module's delta, falling, and what follows from them.

    Values that are only rounding are left out, so that there are as many as the delta's true
    rank; a bias or a norm has one, its length. ``finite`` is false of a module with NaN or
    infinity in it, which has none. ``within`` names an operator (``DoRA``) whose inner delta
    this is: what the operator does beside it depends on the weight.

    >>> one = Figures((4.0, 3.0))
    >>> one.norm, one.rank, one.stable_rank, one.kept(1), one.rank_for(0.9)
    (5.0, 2, 1.5625, 0.64, 2)
    """

    singular_values: tuple[float, ...]
    finite: bool = True
    within: str | None = None

    @property
    def norm(self) -> float:
        """The Frobenius norm ``sqrt(sum_j s_j^2)``; NaN of what is not finite."""
        return hypot(*self.singular_values) if self.finite else nan

    @property
    def rank(self) -> int:
        """How many singular values are more than rounding."""
        return len(self.singular_values)

    @property
    def stable_rank(self) -> float:
        """``norm^2 / s_0^2``, from 1 for a single direction to ``rank`` for equal ones; 0 of nothing.

        *Source*: Rudelson and Vershynin, "Sampling from large matrices", J. ACM 54(4), 2007.
        """
        return (self.norm / self.singular_values[0]) ** 2 if self.singular_values else 0.0

    def kept(self, rank: int) -> float:
        """The share of ``norm^2`` in the first ``rank`` values, which a resize keeps; 1 of nothing."""
        whole = self.norm
        return (hypot(*self.singular_values[:rank]) / whole) ** 2 if self.singular_values else 1.0

    def rank_for(self, energy: float) -> int:
        """The least rank that keeps that share of ``norm^2``."""
        return next((rank for rank in range(self.rank) if self.kept(rank) >= energy), self.rank)


def together(figures: Iterable[Figures]) -> float:
    """The norm of several modules' deltas as one long vector; what is not finite is left out.

    >>> together([Figures((3.0,)), Figures((4.0,)), Figures((), finite=False)])
    5.0
    """
    return hypot(*(one.norm for one in figures if one.finite))


def pooled(figures: Iterable[Figures]) -> Figures:
    """Several modules as one: its j-th value is ``sqrt(sum_m s_mj^2)``; what is not finite is left out.

    So its norm is theirs :func:`together`, and ``kept(rank)`` the share of their ``norm^2`` that is left
    when each is cut to that rank.

    >>> pooled([Figures((3.0, 1.0)), Figures((4.0,))]).singular_values
    (5.0, 1.0)
    """
    spectra = [one.singular_values for one in figures if one.finite]
    return Figures(tuple(hypot(*values) for values in zip_longest(*spectra, fillvalue=0.0)))
