"""How far two tensors of one type are from each other: values that differ, by how much, in last places."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Closeness", "closeness"]

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True)
class Closeness:
    """Two tensors held against each other, value by value.

    ``differing`` of ``values`` have other bits; ``max_abs`` is the largest |a - b|, ``max_rel``
    the largest |a - b| / max(|a|, |b|), ``max_ulps`` the largest number of values of the type
    that lie from a to b: 1 for neighbours, 0 for 0 and -0. Where NaN or infinity stands in for a
    number all three are infinite. Of whole numbers ``max_ulps`` is ``max_abs``.
    """

    values: int
    differing: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0
    max_ulps: float = 0.0

    def __add__(self, other: Closeness) -> Closeness:
        """Of both parts of a tensor together."""
        return Closeness(
            self.values + other.values,
            self.differing + other.differing,
            max(self.max_abs, other.max_abs),
            max(self.max_rel, other.max_rel),
            max(self.max_ulps, other.max_ulps),
        )


def closeness(a: Tensor, b: Tensor) -> Closeness:
    """Compare two tensors of one dtype and shape; differences are taken in float64.

    >>> closeness(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 2.0]))
    Closeness(values=2, differing=1, max_abs=2.0, max_rel=0.5, max_ulps=8388608.0)
    """
    if a.dtype != b.dtype or a.shape != b.shape:
        raise ValueError(f"{a.dtype} {tuple(a.shape)} is not compared with {b.dtype} {tuple(b.shape)}")
    bits = _BITS[a.element_size()]
    one, other = a.reshape(-1).view(bits), b.reshape(-1).view(bits)
    found = (one != other).nonzero().reshape(-1)
    if not len(found):
        return Closeness(a.numel())
    x, y = one[found].view(a.dtype), other[found].view(b.dtype)
    apart = _difference(x, y)
    largest = torch.maximum(x.double().abs(), y.double().abs())
    relative = torch.where(apart > 0, apart / largest, torch.zeros_like(apart))
    ulps = _ulps(one[found], other[found]) if a.is_floating_point() else apart
    ulps = torch.where(apart.isinf(), apart, ulps)
    return Closeness(a.numel(), len(found), _most(apart), _most(relative), _most(ulps))


def _difference(x: Tensor, y: Tensor) -> Tensor:
    """|x - y| in float64, infinite where one of them is no number."""
    apart = (x.double() - y.double()).abs()
    odd = ~(x.double().isfinite() & y.double().isfinite())
    return torch.where(odd, torch.full_like(apart, math.inf), apart)


def _most(values: Tensor) -> float:
    # inf / inf is no number: what is infinitely far is so relatively, too.
    return float(values.nan_to_num(nan=math.inf, posinf=math.inf).max())


def _ulps(x: Tensor, y: Tensor) -> Tensor:
    """How many steps lie between two floating numbers, of which only the bits are given."""
    one, other = _rank(x), _rank(y)
    apart = (one - other).abs().double()
    # Of opposite signs and eight bytes the difference of the ranks may not fit into eight bytes.
    across = one.double().abs() + other.double().abs()
    return torch.where((one < 0) == (other < 0), apart, across)


def _rank(bits: Tensor) -> Tensor:
    """The place of a floating number among those of its type: from sign and magnitude, 0 and -0 at 0."""
    least = torch.iinfo(bits.dtype).min
    wide = bits.to(torch.int64)
    return torch.where(wide >= 0, wide, least - wide)
