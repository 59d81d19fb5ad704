"""The singular value decomposition of a delta that is never formed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.linalg.basis import basis, triangle
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.products import Kronecker
from lorapipe.weights.structures.structure import LowRank

__all__ = ["Svd", "Vectors", "column_signs", "compact_svd", "core"]


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
    if not delta.plain:
        delta = delta.loaded()
        term = delta.terms[0]
        if len(delta.terms) == 1 and isinstance(term.structure, Kronecker) and term.structure.span is None:
            return _kronecker_svd(term.coefficient, term.structure, dtype)
    factors, coefficients = delta.side_by_side(dtype)
    left, right = basis(factors.up), basis(factors.down.T)
    ru, rd = left.r * coefficients, right.r
    small = ru @ rd.T
    if not bool(torch.isfinite(small).all()):
        raise BuildError("not-finite", "NaN or Inf in the factors")
    try:
        u, s, vt = torch.linalg.svd(small, full_matrices=False)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # missing in torch's __all__
        raise BuildError("no-svd", f"no singular value decomposition: {error}") from None
    into_it = float((torch.linalg.vector_norm(ru, dim=0) * torch.linalg.vector_norm(rd, dim=0)).sum())
    noise = torch.finfo(dtype).eps * max(max(delta.shape[0], delta.columns) * float(s[0]), into_it)
    return Svd(torch.where(s > noise, s, 0.0), left, right, u, vt)


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


def _kronecker_svd(coefficient: float, product: Kronecker, dtype: torch.dtype) -> Svd:
    """The SVD of ``coefficient * one (x) two``: the products of all pairs of values and vectors.

    *Source*: Van Loan, "The ubiquitous Kronecker product", J. Comput. Appl. Math. 123,
    2000, section 2.
    """
    halves = ((coefficient, product.one), (1.0, product.two))
    one, two = (compact_svd(Delta(half.shape, (Term(c, half),)), dtype) for c, half in halves)
    (u1, vt1), (u2, vt2) = one.vectors(), two.vectors()
    s, order = torch.outer(one.s, two.s).flatten().sort(descending=True, stable=True)
    noise = torch.finfo(dtype).eps * max(product.shape) * float(s[0])
    unit = torch.eye(len(s), dtype=dtype, device=s.device)
    left, right = _Pairs(u1, u2), _Pairs(vt1.T, vt2.T)
    return Svd(torch.where(s > noise, s, 0.0), left, right, unit[:, order], unit[order])


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
