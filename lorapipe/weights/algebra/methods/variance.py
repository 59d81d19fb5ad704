"""SCE: what the terms differ in most, weighed by how large they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lorapipe.weights.algebra.methods.pruning import Draw, added, largest
from lorapipe.weights.inference.methods import Settings

__all__ = ["sce"]


def sce(
    deltas: Iterable[Tensor],
    weights: Sequence[float],  # noqa: ARG001  # the methods' one signature; they are in the deltas
    settings: Settings,
    draw: Draw,  # noqa: ARG001  # as above
) -> Tensor:
    """Select, calculate, erase: ``sum_i a_i delta_i / sum_i a_i`` over terms of the majority's sign.

    Selected are the ``density`` of the places with a variance (over the terms) above 0 where it is
    largest, all if ``density`` is 1. ``a_i`` is a term's share of all selected squares. A term
    counts at a place where its sign is that of the sum there (plus, if that is 0).

    *Source*: Wan et al., "FuseChat", arXiv 2408.07990, section 3.3; mergekit 0.1.5
    ``merge_methods/sce.py``. *Deviation*: shares are exact; mergekit's are equal where the mean of
    the squares is below 1e-6, which it is of many LoRAs, and its divisors at least that.
    """
    selected = list(deltas)
    if settings.density < 1.0:
        variance = _variance(selected)
        mask = largest(variance, int(settings.density * int(torch.count_nonzero(variance))))
        selected = [torch.where(mask, delta, 0.0) for delta in selected]
    votes = added(selected)
    squares = [float(delta.square().sum()) for delta in selected]
    total, divisor = torch.zeros_like(votes), torch.zeros_like(votes)
    for delta, share in zip(selected, squares, strict=True):
        agrees = torch.where(votes >= 0, delta > 0, delta < 0)
        total += torch.where(agrees, delta, 0.0) * share
        divisor += agrees.to(divisor) * share
    return total / torch.where(divisor > 0, divisor, 1.0)


def _variance(deltas: Sequence[Tensor]) -> Tensor:
    """The mean of the squared differences from the mean, value by value."""
    mean = added(deltas) / len(deltas)
    return added((delta - mean).square() for delta in deltas) / len(deltas)
