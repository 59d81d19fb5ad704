"""Randomness from a seed and a name alone: the same bits on every machine.

torch's generator gives other normal numbers under another CPU capability (measured with
torch 2.13), and numpy's distributions may change between versions. The raw stream of a
counter-based generator does neither, and what is made of it here is integer arithmetic.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["near_normal", "permutation", "raw_bits", "rotation", "uniform"]


def raw_bits(seed: int, name: str, count: int) -> npt.NDArray[np.uint64]:
    """``count`` words of the Philox 4x64-10 stream whose key is a digest of seed and name.

    *Source*: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    key = int.from_bytes(sha256(f"{seed} {name}".encode()).digest()[:16], "little")
    return np.random.Philox(key=key).random_raw(count)


def permutation(seed: int, name: str, size: int) -> Tensor:
    """A permutation of ``range(size)`` as int64: the order of as many random words."""
    return torch.from_numpy(np.argsort(raw_bits(seed, name, size), kind="stable"))


def uniform(seed: int, name: str, count: int) -> Tensor:
    """Independent random numbers ``[count]`` from 0 to below 1 in float64: multiples of ``2^-53``."""
    words = raw_bits(seed, name, count)
    words >>= np.uint64(11)
    numbers = words.astype(np.float64)
    numbers *= 2.0**-53
    return torch.from_numpy(numbers)


def near_normal(seed: int, name: str, rows: int, columns: int) -> Tensor:
    """Independent random numbers ``[rows, columns]`` of mean 0 and one variance, in float64.

    Sums of four uniform 16-bit numbers: near enough to normal, and exact.
    """
    words = raw_bits(seed, name, rows * columns)
    fields = words[:, None] >> np.array([0, 16, 32, 48], dtype=np.uint64)
    sums = (fields & np.uint64(0xFFFF)).sum(axis=1, dtype=np.int64) - 2 * 0xFFFF
    return torch.from_numpy(sums.astype(np.float64).reshape(rows, columns))


def rotation(seed: int, name: str, size: int) -> Tensor:
    """A random orthogonal matrix ``[size, size]`` in float64.

    The Q of a matrix of random numbers, its signs fixed so that R has a positive diagonal.

    *Source*: Mezzadri, "How to generate random matrices from the classical compact
    groups", Notices of the AMS 54(5), 2007.
    """
    q, r = torch.linalg.qr(near_normal(seed, name, size, size))
    signed: Tensor = q * torch.where(torch.diagonal(r) < 0, -1.0, 1.0).to(torch.float64)
    return signed
