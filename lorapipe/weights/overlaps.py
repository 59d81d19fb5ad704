"""How two deltas of one weight stand to each other, as numbers. Torch-free: views draw them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from math import sqrt

__all__ = ["OPPOSED", "Overlap", "together"]

OPPOSED = 3.0
"""Standard deviations of chance below zero from which a cosine says that two deltas oppose each other."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two deltas ``A = sum_i s_i u_i v_i^T`` and ``B = sum_j t_j x_j y_j^T`` of one weight ``[O, I*k]``.

    Every field is a sum, so that those of several modules add up to those of all of them as one
    long vector: :func:`together`.

    ``inner`` is ``<A, B>``, and ``a`` and ``b`` are the squared norms. Of the pairs of components,
    which make up ``inner`` by ``s_i t_j (u_i.x_j)(v_i.y_j)``, those with a sign above zero add up to
    ``along``, the others to ``against`` (which is positive). ``outputs`` and ``inputs`` are the sums of
    the squared cosines of the ``angles`` principal angles between the spans of the ``u`` and the ``x``,
    of the ``v`` and the ``y``. What chance gives in the mean is ``chance_outputs`` and ``chance_inputs``,
    ``rank A * rank B`` over the length of the vectors, and for ``inner^2`` it is ``chance_inner``,
    ``a b / (O I k)``.

    >>> one = Overlap(-0.3, 1.0, 1.0, 0.1, 0.4, 1.0, 0.5, 2, 0.04, 0.04, 0.0001)
    >>> one.cosine, one.conflict, one.outputs_shared, one.noise, one.opposed
    (-0.3, 0.8, 0.5, 0.01, True)
    """

    inner: float = 0.0
    a: float = 0.0
    b: float = 0.0
    along: float = 0.0
    against: float = 0.0
    outputs: float = 0.0
    inputs: float = 0.0
    angles: int = 0
    chance_outputs: float = 0.0
    chance_inputs: float = 0.0
    chance_inner: float = 0.0

    @property
    def cosine(self) -> float | None:
        """``<A, B> / (norm(A) norm(B))``; ``None`` where one of them is nothing."""
        return _share(self.inner, sqrt(self.a) * sqrt(self.b))

    @property
    def noise(self) -> float | None:
        """The standard deviation that the cosine has where A and B have nothing to do with each other."""
        return _share(sqrt(self.chance_inner), sqrt(self.a) * sqrt(self.b))

    @property
    def conflict(self) -> float | None:
        """``against / (along + against)``, the share of what their components have in common that cancels.

        0 where all of it adds up, 1 where all of it cancels, one half where they are unrelated.
        """
        return _share(self.against, self.along + self.against)

    @property
    def outputs_shared(self) -> float | None:
        """The mean squared cosine of the principal angles between what they write to, from 0 to 1.

        *Source*: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, equation 4.
        """
        return _share(self.outputs, self.angles)

    @property
    def inputs_shared(self) -> float | None:
        """As :attr:`outputs_shared`, of what they read."""
        return _share(self.inputs, self.angles)

    @property
    def outputs_by_chance(self) -> float | None:
        """The :attr:`outputs_shared` that unrelated deltas of these ranks have in the mean."""
        return _share(self.chance_outputs, self.angles)

    @property
    def inputs_by_chance(self) -> float | None:
        """The :attr:`inputs_shared` that unrelated deltas of these ranks have in the mean."""
        return _share(self.chance_inputs, self.angles)

    @property
    def opposed(self) -> bool:
        """Whether the cosine is further below zero than chance takes it."""
        return self.cosine is not None and self.cosine < -OPPOSED * (self.noise or 0.0)


def together(overlaps: Iterable[Overlap]) -> Overlap:
    """The overlap of several modules' deltas as two long vectors.

    >>> together([Overlap(inner=1.0, a=1.0, b=1.0), Overlap(inner=-1.0, a=1.0, b=1.0)]).cosine
    0.0
    """
    found = list(overlaps)
    return Overlap(*(sum(getattr(one, field.name) for one in found) for field in fields(Overlap)))


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
