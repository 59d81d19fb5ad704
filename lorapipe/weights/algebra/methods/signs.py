"""Deltas that disagree in sign: one sign is elected for each value, and those that have it are added.

*Deviations* from huggingface/peft 0.21.2 ``merge_utils.py`` and arcee-ai/mergekit 0.1.5
``generalized_task_arithmetic.py``: 1. Weights are in the deltas before signs are elected, as in
mergekit, so that a LoRA of weight -1 votes for what it would do; PEFT elects first. 2. ``mean``
divides by the number that agree, as the paper and PEFT do; mergekit's ``normalize`` is
``weights``. There the weights' magnitudes are added up, which never is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from lorapipe.weights.algebra.methods.pruning import Draw, dropped, kept, stepped
from lorapipe.weights.blocks import BLOCK_ELEMENTS
from lorapipe.weights.inference.methods import Settings
from lorapipe.weights.linalg.svd import compact_svd
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import LowRank

__all__ = ["dare_ties", "della", "elected", "knots", "ties"]


def elected(deltas: Sequence[Tensor], weights: Sequence[float], settings: Settings) -> Tensor:
    """The sum of the deltas that have the elected sign, value by value, divided as ``normalize`` says.

    The sign is that of the sum (``total``), or that of more deltas (``frequency``); of a draw it is
    plus, as in both programs. Zeros have no sign: they neither vote by number nor count.
    """
    made = torch.empty_like(deltas[0], memory_format=torch.contiguous_format)
    height = max(1, BLOCK_ELEMENTS // made.shape[1])
    for start in range(0, made.shape[0], height):
        rows = slice(start, start + height)
        made[rows] = _elected([delta[rows] for delta in deltas], weights, settings)
    return made


def _elected(deltas: Sequence[Tensor], weights: Sequence[float], settings: Settings) -> Tensor:
    votes = torch.zeros_like(deltas[0])
    for delta in deltas:
        votes += delta if settings.elect == "total" else delta.sign()
    plus = votes >= 0
    total, divisor = torch.zeros_like(votes), torch.zeros_like(votes)
    for delta, weight in zip(deltas, weights, strict=True):
        agrees = torch.where(plus, delta > 0, delta < 0)
        total += torch.where(agrees, delta, 0.0)
        divisor.add_(agrees, alpha=abs(weight) if settings.normalize == "weights" else 1.0)
    return total if settings.normalize == "none" else total.div_(divisor.masked_fill_(divisor == 0.0, 1.0))


def ties(
    deltas: Iterable[Tensor],
    weights: Sequence[float],
    settings: Settings,
    draw: Draw,  # noqa: ARG001  # the methods' one signature
) -> Tensor:
    """TIES: each term's largest values, one sign elected, those that agree averaged.

    *Source*: Yadav et al., "TIES-Merging", NeurIPS 2023, arXiv 2306.01708, algorithm 1.
    """
    return elected([kept(delta, settings.density) for delta in deltas], weights, settings)


def dare_ties(deltas: Iterable[Tensor], weights: Sequence[float], settings: Settings, draw: Draw) -> Tensor:
    """TIES on values kept at random (DARE) instead of the largest.

    *Source*: Yu et al., arXiv 2311.03099, section 3.3; peft 0.21.2 ``merge_utils.py::dare_ties``.
    """
    thinned = [dropped(delta, settings.density, partial(draw, i)) for i, delta in enumerate(deltas)]
    return elected(thinned, weights, settings)


def della(deltas: Iterable[Tensor], weights: Sequence[float], settings: Settings, draw: Draw) -> Tensor:
    """TIES on values kept at random, the larger ones of a row with the better chance.

    *Source*: Deep, Bhardwaj and Poria, arXiv 2406.11617, section 3: drop, elect, fuse.
    """
    thinned = [
        stepped(delta, settings.density, settings.epsilon, partial(draw, i)) for i, delta in enumerate(deltas)
    ]
    return elected(thinned, weights, settings)


def knots(parts: Sequence[LowRank], weights: Sequence[float], settings: Settings) -> LowRank:
    """KnOTS: the deltas' coordinates in a basis that they share, merged by TIES.

    ``[w_1 delta_1, w_2 delta_2, ...] = U S [V_1^T, V_2^T, ...]``, the SVD of the deltas side by
    side; TIES of the ``S V_i^T: [R, I*k]`` is ``M``, and the result ``U M``: two factors, exactly.
    ``R`` is at most the sum of the ranks.

    *Source*: Stoica et al., "Model merging with SVD to tie the KnOTS", ICLR 2025, arXiv 2410.19735,
    section 4; that ``S`` is in what is merged: gstoica27/KnOTS ``merging_functions``. *Deviation*: the
    largest values are those of each module, there of the whole model.
    """
    ranks = [part.rank for part in parts]
    columns = parts[0].shape[1]
    up = torch.cat([part.up * weight for part, weight in zip(parts, weights, strict=True)], dim=1)
    down = up.new_zeros(up.shape[1], columns * len(parts))
    for index, part in enumerate(parts):
        first = sum(ranks[:index])
        down[first : first + ranks[index], index * columns : (index + 1) * columns] = part.down
    both = LowRank(up, down)
    svd = compact_svd(Delta(both.shape, (Term(1.0, both),)), up.dtype)
    rank = max(1, min(int((svd.s > 0).sum()), sum(ranks)))
    u, vt = svd.vectors(rank)
    scaled = svd.s[:rank, None] * vt
    apart = [scaled[:, first : first + columns] for first in range(0, scaled.shape[1], columns)]
    merged = elected([kept(one, settings.density) for one in apart], weights, settings)
    return LowRank(u, merged)
