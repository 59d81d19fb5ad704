"""Methods called on plain arrays, as the driver calls them on modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lorapipe.weights.algebra.combining import find_method
from lorapipe.weights.inference.methods import METHODS, Settings
from lorapipe.weights.structures.structure import LowRank

from .peers import Matrix, coins

__all__ = ["coefficients", "dense", "factored", "low_rank"]


def dense(
    method: str,
    given: Sequence[Matrix],
    weights: Sequence[float],
    numbers: Sequence[Matrix] = (),
    **said: Any,
) -> Matrix:
    """A method that works value by value, of the weighted deltas; ``numbers`` are its coins."""
    function = find_method(METHODS[method].home)
    tensors = [torch.from_numpy(w * delta) for w, delta in zip(weights, given, strict=True)]
    held = numbers or coins()
    made = function(tensors, list(weights), Settings(**said), lambda i: torch.from_numpy(held[i]))
    array: Matrix = made.numpy()
    return array


def coefficients(method: str, given: Sequence[Matrix], weights: Sequence[float], **said: Any) -> list[float]:
    """A method of directions, on the deltas' own values as vectors: any basis will do."""
    function = find_method(METHODS[method].home)
    vectors = torch.from_numpy(np.stack([delta.ravel() for delta in given]))
    found: list[float] = function(vectors, list(weights), Settings(**said))
    return found


def factored(method: str, parts: Sequence[LowRank], weights: Sequence[float], **said: Any) -> LowRank:
    """A method that makes new factors."""
    made: LowRank = find_method(METHODS[method].home)(list(parts), list(weights), Settings(**said))
    return made


def low_rank(shape: tuple[int, int], rank: int, seed: int) -> LowRank:
    """Two random factors in float64."""
    rng = np.random.default_rng(seed)
    up, down = rng.standard_normal((shape[0], rank)), rng.standard_normal((rank, shape[1]))
    return LowRank(torch.from_numpy(up), torch.from_numpy(down))
