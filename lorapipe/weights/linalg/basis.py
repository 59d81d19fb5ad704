"""An orthonormal basis of a tall factor's columns, never formed as a matrix.

``side = Q @ r`` with ``side: [n, R]``, ``Q: [n, m]``, ``r: [m, R]``, ``m = min(n, R)``.
An SVD keeps a few columns ``Q @ c`` only, and these are to be had without ``Q``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Basis", "basis", "triangle"]

_DEPARTURE = 1e-9
"""How far ``Q^T Q`` may be from the identity: the optimum is then missed by no more of its error."""

_BLOCK = 64
"""Columns of a Gram matrix at a time: its lower half is a copy. Fixed, since the bits depend on it."""


class Basis(Protocol):
    """``Q`` of ``side = Q @ r``, as what it does to coordinates."""

    @property
    def r(self) -> Tensor: ...

    def columns(self, coordinates: Tensor) -> Tensor:
        """``Q @ coordinates: [n, k]`` for ``coordinates: [m, k]``."""

    def rows(self, coordinates: Tensor) -> Tensor:
        """The transpose of :meth:`columns`, ``[k, n]`` and contiguous."""


def basis(side: Tensor) -> Basis:
    """A basis of the columns of ``side: [n, R]`` in its dtype.

    Of one that is not tall the identity. Else by Cholesky's factor of the Gram matrix,
    ``Q = side @ r^-1``, where that is safe, and by Householder's reflections where not.

    *Numerics*: with columns scaled to length 1, ``Q^T Q - I`` is about
    ``eps * norm(r^-1)^2``; that is measured, and above 1e-9 (condition numbers from some
    1e3 on, rank-deficient sides, float32) reflections serve, whose ``Q`` is orthogonal
    to a small multiple of ``eps``. Cholesky takes a third of their time.
    *Source*: Yamamoto et al., "Roundoff error analysis of the CholeskyQR2 algorithm",
    ETNA 44, 2015; Demmel, "On floating point errors in Cholesky", LAPACK note 14, 1989,
    for the scaling.
    """
    n, rank = side.shape
    if n <= rank:
        return _Identity(side)
    safe = _gram_basis(side) if torch.finfo(side.dtype).eps * rank < _DEPARTURE else None
    return _Reflections(*torch.geqrf(side)) if safe is None else safe


def triangle(side: Tensor) -> Tensor:
    """``r`` alone, by reflections: ``norm(r @ x) = norm(side @ x)`` to a multiple of ``eps``."""
    return side if side.shape[0] <= side.shape[1] else torch.linalg.qr(side, mode="r")[1]


@dataclass(frozen=True, slots=True, eq=False)
class _Identity:
    """Of a side that is its own ``r``."""

    r: Tensor

    def columns(self, coordinates: Tensor) -> Tensor:
        return coordinates

    def rows(self, coordinates: Tensor) -> Tensor:
        return coordinates.T.contiguous()


@dataclass(frozen=True, slots=True, eq=False)
class _Gram:
    """``Q = side @ inverse``, ``inverse = r^-1: [R, R]``."""

    side: Tensor
    r: Tensor
    inverse: Tensor

    def columns(self, coordinates: Tensor) -> Tensor:
        return self.side @ (self.inverse @ coordinates)

    def rows(self, coordinates: Tensor) -> Tensor:
        return (self.inverse @ coordinates).T @ self.side.T


@dataclass(frozen=True, slots=True, eq=False)
class _Reflections:
    """``Q`` as the reflectors and scales of LAPACK's ``geqrf``."""

    packed: Tensor
    scales: Tensor

    @property
    def r(self) -> Tensor:
        return self.packed[: self.packed.shape[1]].triu()

    def columns(self, coordinates: Tensor) -> Tensor:
        padded = coordinates.new_zeros(self.packed.shape[0], coordinates.shape[1])
        padded[: coordinates.shape[0]] = coordinates
        return torch.ormqr(self.packed, self.scales, padded)

    def rows(self, coordinates: Tensor) -> Tensor:
        return self.columns(coordinates).T.contiguous()


def _gram_basis(side: Tensor) -> _Gram | None:
    """``None`` where Cholesky's ``Q`` would not be orthogonal enough, or the side is not finite."""
    gram = _gram(side)
    lengths = gram.diagonal().sqrt()
    gram = gram / lengths / lengths[:, None]
    lower, info = torch.linalg.cholesky_ex(gram)
    if int(info):
        return None
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    inverse = torch.linalg.solve_triangular(lower, identity, upper=False)
    departure = torch.finfo(side.dtype).eps * float(inverse.square().sum())
    # Written so that NaN, from a column of zeros or from bad factors, is refused, too.
    if not departure <= _DEPARTURE:
        return None
    return _Gram(side, lower.T * lengths, inverse.T / lengths[:, None])


def _gram(side: Tensor) -> Tensor:
    """``side^T @ side: [R, R]``."""
    rank = side.shape[1]
    gram = side.new_empty(rank, rank)
    for start in range(0, rank, _BLOCK):
        stop = min(start + _BLOCK, rank)
        gram[start:stop, start:] = side[:, start:stop].T @ side[:, start:]
        gram[stop:, start:stop] = gram[start:stop, stop:].T
    return gram
