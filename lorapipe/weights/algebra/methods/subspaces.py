"""Deltas kept clear of each other: what lies in the directions of a term before is taken off.

The first term stays what it is. Both depend on the order of the terms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lorapipe.weights.inference.methods import Settings
from lorapipe.weights.linalg.svd import compact_svd
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import LowRank

__all__ = ["null_space", "orthogonal"]

_GONE = 1e-12
"""Of a vector's length: what is left of one that the vectors before it span."""


def orthogonal(vectors: Tensor, weights: Sequence[float], settings: Settings) -> list[float]:  # noqa: ARG001  # the methods' one signature
    """``sum_i w_i e_i``: of each delta what is orthogonal to all before it, as vectors of their values.

    ``e_1 = delta_1``, ``e_2 = delta_2 - <delta_1, delta_2> / <delta_1, delta_1> delta_1``, and so on
    (Gram and Schmidt). Of a term that those before it span nothing is left.

    *Source*: ljleb/sd-mecha 1.1.8 ``perpendicular_component`` for two.
    """
    left: list[Tensor] = []  # of each delta, as coefficients of all
    for index, vector in enumerate(vectors):
        rest = torch.zeros(len(vectors), dtype=vectors.dtype)
        rest[index] = 1.0
        for other in (*left, *left):  # once more against what rounding left
            along = other @ vectors
            square = float(along @ along)
            rest = rest - (float(rest @ vectors @ along) / square if square else 0.0) * other
        gone = float(torch.linalg.vector_norm(rest @ vectors)) <= _GONE * float(
            torch.linalg.vector_norm(vector)
        )
        left.append(torch.zeros_like(rest) if gone else rest)
    shares = torch.tensor(weights, dtype=vectors.dtype)
    coefficients: list[float] = (shares @ torch.stack(left)).tolist()
    return coefficients


def null_space(parts: Sequence[LowRank], weights: Sequence[float], settings: Settings) -> LowRank:
    """``w_1 delta_1 + w_2 delta_2 (1 - p V V^T) + ...``: the later ones off the subspaces of those before.

    ``V: [I*k, d]`` is an orthonormal basis of the leading ``directions`` right singular vectors of each
    delta before, all that it has unless given; ``p`` is ``projection``. ``side: output`` takes left
    ones, ``(1 - p U U^T) delta``; ``both`` does both.

    *Source*: Chen et al., "NP-LoRA: null space projection for subject-style LoRA fusion", arXiv
    2511.11051: the style first, its content after; there ``p = mu / (1 + mu)``, which minimises
    ``|X - delta|^2 + mu |X V|^2``.
    """
    ups: list[Tensor] = []
    downs: list[Tensor] = []
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    for part, weight in zip(parts, weights, strict=True):
        up, down = part.up, part.down
        if inputs and settings.side != "output":
            down = _off(down.T, inputs, settings.projection).T
        if outputs and settings.side != "input":
            up = _off(up, outputs, settings.projection)
        ups.append(up * weight)
        downs.append(down)
        u, vt = _directions(part, settings.directions)
        inputs.append(vt.T)
        outputs.append(u)
    return LowRank(torch.cat(ups, dim=1), torch.cat(downs))


def _directions(part: LowRank, count: int | None) -> tuple[Tensor, Tensor]:
    """The leading singular vectors of a delta: those of values above 0, at most ``count``."""
    svd = compact_svd(Delta(part.shape, (Term(1.0, part),)), part.up.dtype)
    real = int((svd.s > 0).sum())
    return svd.vectors(real if count is None else min(real, count))


def _off(columns: Tensor, spans: Sequence[Tensor], projection: float) -> Tensor:
    """``columns: [n, r]`` less ``projection`` of what lies in the span of all ``spans: [n, d]``."""
    stacked = torch.cat(list(spans), dim=1)
    u, s, _ = torch.linalg.svd(stacked, full_matrices=False)
    basis = u[:, s > max(stacked.shape) * torch.finfo(s.dtype).eps * s[:1]]
    within: Tensor = basis @ (basis.T @ columns)
    return columns - projection * within
