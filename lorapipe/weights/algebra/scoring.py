"""What a delta's components are held against, to be scored; see :class:`~.scoring.Score`."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot

import torch
from torch import Tensor

from lorapipe.weights.inference.scoring import Score
from lorapipe.weights.linalg.spectra import spectral_norm
from lorapipe.weights.linalg.svd import Svd
from lorapipe.weights.structures.delta import Delta

__all__ = ["scores"]


def scores(score: Score, delta: Delta, svd: Svd, base: Tensor | None) -> tuple[float, ...]:
    """The score of each component of ``delta``, as many as ``svd`` has singular values.

    ``base: [O, N]`` is the weight that the delta is added to, where ``score`` asks for it. It may
    have further columns, on which the delta does nothing (an inpainting model's first kernel):
    norms are of all, ``subspace`` is of those that both have.
    """
    values: list[float] = svd.s.tolist()
    found = {name: _reference(name, values, delta, svd, base) for name in score.live}
    return score.of(values, found)


def _reference(
    name: str, values: Sequence[float], delta: Delta, svd: Svd, base: Tensor | None
) -> float | Sequence[float]:
    if name == "params":
        return float(delta.shape[0] + delta.columns)
    if name == "lora-spectral":
        return values[0]
    if name == "lora-frobenius":
        return hypot(*values)
    assert base is not None, "the step gives a base to scores by one"
    if name == "spectral":
        return spectral_norm(base)
    if name == "frobenius":
        return float(torch.linalg.vector_norm(base))
    return _along(svd, base[:, : delta.columns])


def _along(svd: Svd, base: Tensor) -> Sequence[float]:
    """``|u_j^T W v_j|`` for each component."""
    u, vt = (side.to(base) for side in svd.vectors())
    along: list[float] = ((base @ vt.T) * u).sum(dim=0).abs().tolist()
    return along
