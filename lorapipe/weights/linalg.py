"""The singular value decomposition of a delta that is never formed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.delta import Delta, LowRank

__all__ = ["Svd", "balanced", "compact_svd", "core"]


@dataclass(frozen=True, slots=True, eq=False)
class Svd:
    """``u @ diag(s) @ vt`` with ``u: [O, n]``, ``s: [n]`` falling, ``vt: [n, I*k]``.

    ``n = min(R, O, I*k)``. The entry of largest magnitude in each column of ``u`` is
    positive, and singular values that are only rounding are exactly 0.
    """

    u: Tensor
    s: Tensor
    vt: Tensor

    def factors(self, rank: int | None = None) -> LowRank:
        """The best approximation of ``rank``, balanced: ``u sqrt(s)`` and ``sqrt(s) vt``.

        *Source*: Eckart and Young, "The approximation of one matrix by another of lower
        rank", Psychometrika 1, 1936.
        """
        root = self.s[:rank].sqrt()
        return LowRank(self.u[:, :rank] * root, root[:, None] * self.vt[:rank])

    def energy(self, rank: int) -> float:
        """The share of the squared Frobenius norm in the first ``rank`` values; 1 of zero.

        ``sum_{j < rank} s_j^2 / sum_j s_j^2``, from 0 to 1.
        """
        squares = self.s.to(torch.float64) ** 2
        total = float(squares.sum())
        return float(squares[:rank].sum()) / total if total else 1.0


def compact_svd(delta: Delta, dtype: torch.dtype = torch.float64) -> Svd:
    """The exact SVD of ``sum c * up @ down`` by way of an ``R x R`` core.

    With ``up = Qu Ru`` and ``down^T = Qd Rd`` the SVD of the core ``Ru Rd^T`` gives that
    of the delta. A side whose rank ``R`` is not below its length skips its QR, so that a
    core is never larger than it need be, and the delta is formed only where it is smaller
    than both its factors.

    Raises :class:`BuildError` ``not-finite`` for NaN or Inf in the factors, ``no-svd``
    when LAPACK does not converge.

    *Numerics*: the error of every singular value is a small multiple of
    ``eps * norm(up) * norm(down)``, so the factors are balanced first; values below the
    larger of that and ``eps * max(O, I*k) * s_0`` are set to 0. Signs are fixed since
    they differ between CPU and CUDA.
    """
    factors = balanced(delta, dtype)
    left, ru = _reduced(factors.up)
    right, rd = _reduced(factors.down.T)
    small = ru @ rd.T
    if not bool(torch.isfinite(small).all()):
        raise BuildError("not-finite", "NaN or Inf in the factors")
    try:
        u, s, vt = torch.linalg.svd(small, full_matrices=False)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # missing in torch's __all__
        raise BuildError("no-svd", f"no singular value decomposition: {error}") from None
    noise = torch.finfo(dtype).eps * max(
        max(delta.shape[0], delta.columns) * float(s[0]), float(ru.norm()) * float(rd.norm())
    )
    s = torch.where(s > noise, s, 0.0)
    u = u if left is None else left @ u
    vt = vt if right is None else vt @ right.T
    sign = _column_signs(u)
    return Svd(u * sign, s, sign[:, None] * vt)


def core(delta: Delta, dtype: torch.dtype = torch.float64) -> Tensor:
    """A matrix of at most ``R x R`` that has the delta's singular values.

    Same columns and rows rotated away: its norm is the delta's, without the squaring of
    errors that a Gram matrix brings.
    """
    factors = balanced(delta, dtype)
    return _reduced(factors.up)[1] @ _reduced(factors.down.T)[1].T


def balanced(delta: Delta, dtype: torch.dtype) -> LowRank:
    """The stacked factors with ``norm(up[:, j])`` about ``norm(down[j])`` for each rank j.

    The scales are powers of two, so that only the coefficients round.
    """
    factors = delta.stacked(dtype)
    exponents = [
        np.frexp(torch.linalg.vector_norm(side, dim=dim).cpu().numpy())[1]
        for side, dim in ((factors.up, 0), (factors.down, 1))
    ]
    by = torch.from_numpy(np.ldexp(1.0, (exponents[1] - exponents[0]) // 2)).to(factors.up)
    return LowRank(factors.up * by, factors.down / by[:, None])


def _reduced(side: Tensor) -> tuple[Tensor | None, Tensor]:
    """``(Q, R)`` of a tall side; of one that is not tall ``(None, side)``: it is small itself."""
    if side.shape[0] <= side.shape[1]:
        return None, side
    q, r = torch.linalg.qr(side)
    return q, r


def _column_signs(u: Tensor) -> Tensor:
    """The sign of each column's entry of largest magnitude, the first of equal ones."""
    peaks = u.gather(0, u.abs().argmax(dim=0, keepdim=True))[0]
    return torch.where(peaks < 0, -1.0, 1.0).to(u.dtype)
