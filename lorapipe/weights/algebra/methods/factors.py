"""Sums of factors, which are no sums of deltas: what other programs call linear."""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, sqrt

from lorapipe.weights.inference.methods import Settings
from lorapipe.weights.structures.structure import LowRank

__all__ = ["linear_factors"]


def linear_factors(parts: Sequence[LowRank], weights: Sequence[float], settings: Settings) -> LowRank:  # noqa: ARG001  # the methods' one signature
    """``up = sum_i sqrt(|w_i| s_i) up_i``, ``down = sum_i sign(w_i) sqrt(|w_i| s_i) down_i``.

    ``s_i`` is alpha over rank, whose root is in both factors of a part already. The product has
    cross terms, ``up_i down_j``, which nobody trained: it is here for those who have to make again
    what was made so.

    *Source*: huggingface/peft 0.21.2 ``tuners/lora/model.py`` (``combination_type="linear"``), where
    ``w`` is the weight; kohya-ss/sd-scripts 48d368f ``networks/merge_lora.py`` without ``--concat``,
    where it is ``r |r|`` for a ratio ``r``.
    """
    first, *others = [
        (part.up * sqrt(abs(weight)), part.down * copysign(sqrt(abs(weight)), weight))
        for part, weight in zip(parts, weights, strict=True)
    ]
    up, down = first
    for more_up, more_down in others:
        up, down = up + more_up, down + more_down
    return LowRank(up, down)
