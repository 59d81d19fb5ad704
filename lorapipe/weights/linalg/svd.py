"""The singular value decomposition of a delta that is never formed."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.linalg.basis import Basis, basis, triangle
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.products import Kronecker
from lorapipe.weights.structures.structure import LowRank
from lorapipe.weights.tensors import all_finite

__all__ = ["Svd", "Vectors", "column_signs", "compact_svd", "core", "singular_values"]


class Vectors(Protocol):
    """A matrix of orthonormal columns, as what it does to coordinates; see :class:`~.basis.Basis`."""

    def columns(self, coordinates: Tensor) -> Tensor: ...

    def rows(self, coordinates: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True, eq=False)
class Svd:
    """``u @ diag(s) @ vt`` with ``u: [O, n]``, ``s: [n]`` falling, ``vt: [n, I*k]``.

    ``n = min(R, O, I*k)``. Singular values that are only rounding are exactly 0. The
    vectors are formed when asked for, and only as many as asked for: ``left`` and
    ``right`` are bases, in which their coordinates are the columns of ``inner_u`` and
    the rows of ``inner_vt``.
    """

    s: Tensor
    left: Vectors
    right: Vectors
    inner_u: Tensor
    inner_vt: Tensor

    def vectors(self, rank: int | None = None) -> tuple[Tensor, Tensor]:
        """The first ``rank`` columns of ``u`` and rows of ``vt``.

        The entry of largest magnitude in each column of ``u`` is positive: signs differ
        between CPU and CUDA.
        """
        return self._scaled(torch.ones_like(self.s[:rank]))

    def factors(self, rank: int | None = None) -> LowRank:
        """The best approximation of ``rank``, balanced: ``u sqrt(s)`` and ``sqrt(s) vt``.

        *Source*: Eckart and Young, "The approximation of one matrix by another of lower
        rank", Psychometrika 1, 1936.
        """
        return LowRank(*self._scaled(self.s[:rank].sqrt()))

    def _scaled(self, by: Tensor) -> tuple[Tensor, Tensor]:
        """``u * by`` and ``by * vt``, as many vectors as ``by`` has values."""
        u = self.left.columns(self.inner_u[:, : len(by)])
        vt = self.right.rows(self.inner_vt[: len(by)].T)
        signed = column_signs(u) * by
        return u * signed, signed[:, None] * vt


def compact_svd(delta: Delta, dtype: torch.dtype = torch.float64) -> Svd:
    """The exact SVD of ``sum c * up @ down`` by way of an ``R x R`` core.

    Structures other than two factors are taken as their exact factors; but the SVD of a
    Kronecker product is the product of its halves' SVDs.

    With ``up = Qu Ru`` and ``down^T = Qd Rd`` the SVD of the core ``Ru diag(c) Rd^T``
    gives that of the delta (see :func:`~.basis.basis`). A side whose rank ``R`` is not
    below its length is its own core's, so that a core is never larger than it need be,
    and the delta is formed only where it is smaller than both its factors.

    Raises :class:`BuildError` ``not-finite`` for NaN or Inf in the factors, ``no-svd``
    when LAPACK does not converge.

    *Numerics*: the error of every singular value is a small multiple of
    ``eps * sum_j abs(c_j) norm(up[:, j]) norm(down[j])``, whatever the scales that up
    and down share out between them; values below the larger of that and
    ``eps * max(O, I*k) * s_0`` are set to 0.
    """
    delta, halves = _halves(delta)
    if halves is not None:
        return _kronecker_svd(halves, delta.shape, dtype)
    left, right, small, noise = _small(delta, dtype)
    try:
        u, s, vt = torch.linalg.svd(small, full_matrices=False)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # missing in torch's __all__
        raise BuildError("no-svd", f"no singular value decomposition: {error}") from None
    return Svd(noise.removed(s), left, right, u, vt)


def singular_values(delta: Delta, dtype: torch.dtype = torch.float64) -> Tensor:
    """The ``s`` of :func:`compact_svd` alone, ``[n]``, falling: a third to all of its time.

    Raises what that raises; the same values are exactly 0, and are off by no more.
    """
    delta, halves = _halves(delta)
    if halves is not None:
        one, two = (singular_values(half, dtype) for half in halves)
        s = torch.outer(one, two).flatten().sort(descending=True).values
        return _Noise(dtype, max(delta.shape[0], delta.columns), 0.0).removed(s)
    _, _, small, noise = _small(delta, dtype)
    try:
        return noise.removed(torch.linalg.svdvals(small))
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # missing in torch's __all__
        raise BuildError("no-svd", f"no singular value decomposition: {error}") from None


@dataclass(frozen=True, slots=True)
class _Noise:
    """What counts as rounding: up to ``eps`` times ``longer * s_0``, or times the ``terms`` that met."""

    dtype: torch.dtype
    longer: int
    terms: float

    def removed(self, s: Tensor) -> Tensor:
        """The values with those at most noise exactly 0."""
        first = float(s[0]) if len(s) else 0.0
        return torch.where(s > torch.finfo(self.dtype).eps * max(self.longer * first, self.terms), s, 0.0)


def _halves(delta: Delta) -> tuple[Delta, tuple[Delta, Delta] | None]:
    """The delta, in memory unless it is plain, and the halves of it if it is one Kronecker product."""
    if delta.plain:
        return delta, None
    delta = delta.loaded()
    (term, *others) = delta.terms
    product = term.structure
    if others or not isinstance(product, Kronecker) or product.span is not None:
        return delta, None
    one = Delta(product.one.shape, (Term(term.coefficient, product.one),))
    return delta, (one, Delta(product.two.shape, (Term(1.0, product.two),)))


def _small(delta: Delta, dtype: torch.dtype) -> tuple[Basis, Basis, Tensor, _Noise]:
    """Bases of both sides, the matrix that stands between them, and what is noise in it."""
    factors, coefficients = delta.side_by_side(dtype)
    left, right = basis(factors.up), basis(factors.down.T)
    ru, rd = left.r * coefficients, right.r
    small = ru @ rd.T
    if not all_finite(small):
        raise BuildError("not-finite", "NaN or Inf in the factors")
    terms = float((torch.linalg.vector_norm(ru, dim=0) * torch.linalg.vector_norm(rd, dim=0)).sum())
    return left, right, small, _Noise(dtype, max(delta.shape[0], delta.columns), terms)


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """The Kronecker product of two matrices of orthonormal columns, ``[a, n]`` and ``[b, m]``."""

    one: Tensor
    two: Tensor

    def columns(self, coordinates: Tensor) -> Tensor:
        apart = coordinates.reshape(self.one.shape[1], self.two.shape[1], -1)
        inner = torch.einsum("bm,nmk->nbk", self.two, apart)
        return torch.einsum("an,nbk->abk", self.one, inner).flatten(0, 1)

    def rows(self, coordinates: Tensor) -> Tensor:
        return self.columns(coordinates).T.contiguous()


def _kronecker_svd(halves: tuple[Delta, Delta], shape: tuple[int, ...], dtype: torch.dtype) -> Svd:
    """The SVD of a Kronecker product: the products of all pairs of its halves' values and vectors.

    *Source*: Van Loan, "The ubiquitous Kronecker product", J. Comput. Appl. Math. 123,
    2000, section 2.
    """
    one, two = (compact_svd(half, dtype) for half in halves)
    (u1, vt1), (u2, vt2) = one.vectors(), two.vectors()
    s, order = torch.outer(one.s, two.s).flatten().sort(descending=True, stable=True)
    unit = torch.eye(len(s), dtype=dtype, device=s.device)
    left, right = _Pairs(u1, u2), _Pairs(vt1.T, vt2.T)
    noise = _Noise(dtype, max(shape[0], prod(shape[1:])), 0.0)
    return Svd(noise.removed(s), left, right, unit[:, order], unit[order])


def core(delta: Delta, dtype: torch.dtype = torch.float64) -> Tensor:
    """A matrix of at most ``R x R`` that has the delta's singular values.

    Same columns and rows rotated away: its norm is the delta's, without the squaring of
    errors that a Gram matrix brings.
    """
    factors, coefficients = delta.side_by_side(dtype)
    return (triangle(factors.up) * coefficients) @ triangle(factors.down.T).T


def column_signs(u: Tensor) -> Tensor:
    """The sign of each column's entry of largest magnitude, the first of equal ones."""
    highest, lowest = u.amax(dim=0), u.amin(dim=0)
    tied = highest == -lowest
    if bool(tied.any()):
        peaks = u.gather(0, u.abs().argmax(dim=0, keepdim=True))[0]
        highest = torch.where(tied, peaks, highest)
        lowest = torch.where(tied, 0.0, lowest)
    return torch.where(highest < -lowest, -1.0, 1.0).to(u.dtype)
