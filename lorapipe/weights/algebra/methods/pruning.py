"""Deltas thinned out before they are added: by magnitude, at random, by rank within a row.

*Deviations*: 1. The number of values kept is ``max(1, floor(density * n))``, as in
arcee-ai/mergekit 0.1.5 ``sparsify.py``; huggingface/peft 0.21.2 ``merge_utils.py`` may keep none. 2. Of equal
magnitudes the first by index is the larger. 3. What is dropped at random is made good for by
one over its chance of being kept, as the papers have it; mergekit's ``rescale`` makes the sum of
magnitudes what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lorapipe.weights.inference.methods import Settings

__all__ = [
    "Draw",
    "added",
    "breadcrumbs",
    "dare_linear",
    "dropped",
    "kept",
    "largest",
    "magnitude_prune",
    "stepped",
]

Draw = Callable[[int], Tensor]
"""The random numbers of a term, by its place: from 0 to below 1, of the deltas' shape."""


def largest(matrix: Tensor, count: int) -> Tensor:
    """Where the ``count`` values of largest magnitude are, as booleans of ``matrix``'s shape.

    >>> largest(torch.tensor([[1.0, -3.0], [3.0, 3.0]]), 2).tolist()
    [[False, True], [True, False]]
    """
    sizes = matrix.abs().flatten()
    if count >= len(sizes):
        return torch.ones_like(matrix, dtype=torch.bool)
    if not count:
        return torch.zeros_like(matrix, dtype=torch.bool)
    place = len(sizes) - count
    # A quarter of the time of torch's kthvalue (measured).
    least = float(np.partition(sizes.cpu().numpy(), place)[place])
    mask = sizes > least
    equal = torch.nonzero(sizes == least).flatten()
    mask[equal[: count - int(mask.sum())]] = True
    return mask.reshape(matrix.shape)


def kept(matrix: Tensor, density: float) -> Tensor:
    """``matrix`` with all but its ``density * n`` values of largest magnitude set to 0."""
    if density >= 1.0:
        return matrix
    return torch.where(largest(matrix, _count(matrix, density)), matrix, 0.0)


def dropped(matrix: Tensor, density: float, random: Callable[[], Tensor]) -> Tensor:
    """Each value kept with a chance of ``density``, and divided by it: the mean is ``matrix``.

    *Source*: Yu et al., "Language models are super Mario" (DARE), ICML 2024, arXiv 2311.03099, section 3.2.
    """
    if density >= 1.0:
        return matrix
    return torch.where(random() < density, matrix / density, 0.0)


def stepped(matrix: Tensor, density: float, epsilon: float, random: Callable[[], Tensor]) -> Tensor:
    """Each value kept with a chance that grows with its rank in its row, and divided by that chance.

    ``p = density - epsilon + 2 epsilon (rank - 1) / (n - 1)``, rank 1 being the smallest magnitude of
    the ``n`` in a row; of equal ones the first by index. A row of one value has ``p = density``.

    *Source*: Deep, Bhardwaj and Poria, "DELLA-Merging", arXiv 2406.11617, section 3.1 (MAGPRUNE;
    its epsilon is twice this one), in the form of mergekit 0.1.5 ``sparsify.py::della_magprune``.
    """
    if density >= 1.0:
        return matrix
    columns = matrix.shape[1]
    if columns == 1:
        return dropped(matrix, density, random)
    order = matrix.abs().argsort(dim=1, stable=True)
    chances = torch.linspace(density - epsilon, density + epsilon, columns, dtype=matrix.dtype)
    chance = torch.empty_like(matrix).scatter_(1, order, chances.to(matrix).expand(matrix.shape))
    return torch.where(random() < chance, matrix / chance, 0.0)


def magnitude_prune(
    deltas: Iterable[Tensor],
    weights: Sequence[float],  # noqa: ARG001  # the methods' one signature; they are in the deltas
    settings: Settings,
    draw: Draw,  # noqa: ARG001  # as above
) -> Tensor:
    """``sum_i w_i prune(delta_i)``: of each term the largest ``density * n`` values.

    *Source*: huggingface/peft 0.21.2 ``peft/utils/merge_utils.py::magnitude_prune``.
    """
    return added(kept(delta, settings.density) for delta in deltas)


def dare_linear(
    deltas: Iterable[Tensor],
    weights: Sequence[float],  # noqa: ARG001  # the methods' one signature; they are in the deltas
    settings: Settings,
    draw: Draw,
) -> Tensor:
    """``sum_i w_i (m_i * delta_i) / density``, each value of ``m_i`` 1 with a chance of ``density``, else 0.

    *Source*: Yu et al., arXiv 2311.03099, equations 3 to 5; peft 0.21.2 ``merge_utils.py::dare_linear``.
    """
    return added(dropped(delta, settings.density, partial(draw, i)) for i, delta in enumerate(deltas))


def breadcrumbs(
    deltas: Iterable[Tensor],
    weights: Sequence[float],  # noqa: ARG001  # the methods' one signature; they are in the deltas
    settings: Settings,
    draw: Draw,  # noqa: ARG001  # as above
) -> Tensor:
    """``sum_i w_i mask(delta_i)``: without the largest ``gamma * n`` values, and without the smallest.

    ``floor(density * n)`` values stay; where so many are not left, fewer of the largest go.

    *Source*: Davari and Belilovsky, "Model Breadcrumbs", ECCV 2024, arXiv 2312.06795, section 3,
    in the form of mergekit 0.1.5 ``sparsify.py::magnitude_outliers``.
    """
    return added(_middle(delta, settings.density, settings.gamma) for delta in deltas)


def _middle(matrix: Tensor, density: float, gamma: float) -> Tensor:
    if density >= 1.0:
        return matrix
    count = _count(matrix, density)
    upper = min(matrix.numel(), count + int(gamma * matrix.numel()))
    mask = largest(matrix, upper) & ~largest(matrix, upper - count)
    return torch.where(mask, matrix, 0.0)


def _count(matrix: Tensor, density: float) -> int:
    return max(1, int(density * matrix.numel()))


def added(matrices: Iterable[Tensor]) -> Tensor:
    """The sum of one matrix or more, of which no more than one is asked for at a time."""
    rest = iter(matrices)
    total = next(rest).clone()
    for matrix in rest:
        total += matrix
    return total
