"""Means on spheres: between directions, not between points.

They depend on the deltas' lengths and angles alone, so that they are found in a small basis and
come out as coefficients of the deltas.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import acos, copysign, cos, sin

import torch
from torch import Tensor

from lorapipe.weights.inference.methods import Settings

__all__ = ["karcher", "nuslerp", "slerp"]

_PARALLEL = 0.9995
"""Cosines beyond this, of either sign, are those of lines: mergekit's threshold for ``slerp``."""

_ALIKE = 1e-12
"""The square of a sine below which two directions are one line. mergekit's for ``nuslerp``, 1e-16, is
that of rounding: of two opposite deltas it makes some 1e8 times their length."""

_STEPS, _CLOSE = 100, 1e-12
"""How often the Karcher mean is improved at most, and the step with which that ends."""


def slerp(vectors: Tensor, weights: Sequence[float], settings: Settings) -> list[float]:
    """``(sin((1-t) theta) a + sin(t theta) b) / sin(theta)`` of ``a = w_1 delta_1``, ``b = w_2 delta_2``.

    ``theta`` is the angle between ``a`` and ``b`` as vectors of all their values. Within 1.8 degrees
    of a line it is ``(1-t) a + t b``. Of one delta alone it is that one with its weight.

    *Source*: Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985; mergekit 0.1.5
    ``merge_methods/slerp.py``, there between whole weights.
    """
    if len(vectors) == 1:
        return [weights[0]]
    cosine = copysign(1.0, weights[0] * weights[1]) * _cosine(vectors[0], vectors[1])
    first, second = _between(cosine, settings.t, straight=abs(cosine) > _PARALLEL)
    return [first * weights[0], second * weights[1]]


def nuslerp(vectors: Tensor, weights: Sequence[float], settings: Settings) -> list[float]:  # noqa: ARG001  # the methods' one signature
    """``slerp`` of the deltas themselves with ``t = w_2 / (w_1 + w_2)``: weights are shares.

    Of one delta alone it is that one, whatever its weight.

    *Source*: mergekit 0.1.5 ``merge_methods/nuslerp.py`` with ``nuslerp_flatten: true``.
    """
    if len(vectors) == 1:
        return [1.0]
    cosine = _cosine(vectors[0], vectors[1])
    t = weights[1] / (weights[0] + weights[1])
    return list(_between(cosine, t, straight=1.0 - cosine * cosine <= _ALIKE))


def karcher(vectors: Tensor, weights: Sequence[float], settings: Settings) -> list[float]:  # noqa: ARG001  # the methods' one signature
    """The Karcher mean: the direction with the least sum of weighted squared angles to all deltas.

    Found by ``m <- exp_m(sum_i a_i log_m(u_i))`` from the weighted mean, ``u_i`` being directions and
    ``a_i = w_i / sum w`` shares; its length is ``sum_i a_i |delta_i|``. Those opposite to ``m`` pull in no
    direction and are passed over. Of one delta alone it is that one.

    *Source*: Karcher, "Riemannian center of mass and mollifier smoothing", Comm. Pure Appl. Math.
    30, 1977; mergekit 0.1.5 ``merge_methods/karcher.py``, which ends after 10 steps, and weighs all the same.
    """
    lengths = torch.linalg.vector_norm(vectors, dim=1)
    shares = torch.tensor(weights, dtype=vectors.dtype) / sum(weights)
    units = vectors / lengths[:, None]
    mean = shares.clone()  # in coefficients of the units, as all that follows
    if float(torch.linalg.vector_norm(mean @ units)) < _CLOSE:
        mean = torch.zeros_like(shares)
        mean[0] = 1.0
    mean = mean / torch.linalg.vector_norm(mean @ units)
    for _ in range(_STEPS):
        step = _pull(mean, units, shares)
        length = float(torch.linalg.vector_norm(step @ units))
        if length < _CLOSE:
            break
        mean = cos(length) * mean + sin(length) / length * step
        mean = mean / torch.linalg.vector_norm(mean @ units)
    coefficients: list[float] = (float(shares @ lengths) * mean / lengths).tolist()
    return coefficients


def _pull(mean: Tensor, units: Tensor, shares: Tensor) -> Tensor:
    """``sum_i a_i log_m(u_i)``, the tangent that leads to the mean, in coefficients of ``units``."""
    step = torch.zeros_like(mean)
    at = mean @ units
    for index, unit in enumerate(units):
        cosine = min(1.0, max(-1.0, float(at @ unit)))
        angle = acos(cosine)
        if 1.0 - cosine * cosine <= _ALIKE:
            continue
        pull = -cosine * mean
        pull[index] += 1.0
        step += shares[index] * (angle / sin(angle)) * pull
    return step


def _cosine(one: Tensor, two: Tensor) -> float:
    product = torch.linalg.vector_norm(one) * torch.linalg.vector_norm(two)
    return min(1.0, max(-1.0, float(one @ two / product)))


def _between(cosine: float, t: float, *, straight: bool) -> tuple[float, float]:
    """The coefficients of two vectors at that angle, ``t`` of the way from the first to the second."""
    if straight:
        return 1.0 - t, t
    angle = acos(cosine)
    return sin((1.0 - t) * angle) / sin(angle), sin(t * angle) / sin(angle)
