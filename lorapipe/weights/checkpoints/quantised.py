"""Scaled fp8: a weight is what is stored times a scale, which a merge must choose anew."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from lorapipe.weights.tensors import TORCH_DTYPES

__all__ = ["Rescaled", "dequantised", "largest", "new_scales", "unscaled"]

_LARGEST = {"F8_E4M3": 448.0, "F8_E5M2": 57344.0}


def dequantised(
    stored: Tensor, scales: Tensor, block: tuple[int, int], first: int, dtype: torch.dtype
) -> Tensor:
    """``stored * scale`` in ``dtype`` for rows of a weight from ``first`` on: ``[n, columns]``.

    ``scales: [a, b]`` has one for each block of ``block`` rows and columns.
    """
    return stored.to(dtype) * _spread(scales.to(dtype), stored, block, first)


def unscaled(values: Tensor, scales: Tensor, block: tuple[int, int], first: int) -> Tensor:
    """``values / scale``: what is to be rounded and stored; the inverse of :func:`dequantised`."""
    return values / _spread(scales.to(values.dtype), values, block, first)


def largest(values: Tensor, block: tuple[int, int], first: int, found: Tensor) -> None:
    """Raise ``found: [a, b]`` to the greatest magnitudes of ``values: [n, columns]``, by block."""
    height, width = block
    for row in range(first // height, -(-(first + len(values)) // height)):
        rows = values[max(row * height - first, 0) : (row + 1) * height - first]
        parts = [rows[:, column : column + width] for column in range(0, rows.shape[1], width)]
        columns = torch.stack([part.abs().amax() for part in parts])
        found[row] = torch.maximum(found[row], columns)


def new_scales(magnitudes: Tensor, target: str, scale_dtype: str) -> Tensor:
    """The scales with which the greatest magnitude of each block is the type's largest number.

    In the dtype they are stored in; 1 for a block of zeros.

    *Numerics*: rounding a scale down, by 2**-9 at most, makes a value exceed the largest
    number by less than half a step, so that it still rounds to it.
    """
    exact = torch.where(magnitudes > 0, magnitudes / _LARGEST[target], 1.0)
    dtype = TORCH_DTYPES[scale_dtype]
    return exact.to(dtype).clamp(min=torch.finfo(dtype).tiny)


def _spread(scales: Tensor, values: Tensor, block: tuple[int, int], first: int) -> Tensor:
    """The scale of each value, as far as it differs: ``[1 or n, 1 or columns]``."""
    height, width = block
    rows = torch.arange(first, first + len(values), device=values.device) // height
    spread = scales[rows] if len(scales) > 1 else scales
    if scales.shape[1] == 1:
        return spread
    return spread.repeat_interleave(width, dim=1)[:, : values.shape[1]]


class Rescaled:
    """The new scales of the weights of one save, each found once, by whichever worker is first.

    A scale depends on all of its weight, so that the weight is summed twice: for its
    greatest magnitude, and to be written. Memory stays that of a slab.
    """

    def __init__(self, find: Callable[[str], Tensor]) -> None:
        self._find = find
        self._found: dict[str, Tensor] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def __call__(self, key: str) -> Tensor:
        """The scales ``[a, b]`` of the weight ``key`` of the file."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._found:
                self._found[key] = self._find(key)
            return self._found[key]
