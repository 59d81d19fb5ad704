"""The singular values of a matrix that is there, and the nearest matrices of lower rank.

Of a LoRA's delta, which is never formed, see :mod:`~lorapipe.weights.linalg.svd`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.linalg.randomness import near_normal
from lorapipe.weights.linalg.svd import column_signs
from lorapipe.weights.structures.structure import LowRank

__all__ = ["Spectrum", "leading_spectrum", "low_rank", "sketch", "spectral_norm", "spectrum"]

_STEPS = 4
"""Rows that a step of a triangle takes, in its own heights: a quarter more work and no copy."""

_SQUARED = 1e3
"""Square roots of eps that a value is above, of the largest, if it is taken from a Gram matrix."""

_OVERSAMPLES = 16
_ITERATIONS = 4
"""Of the range finder: what it leaves is then within some 0.1 % of the least, where values fall as 1/i."""


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Singular values ``s: [n]``, falling, of ``matrix: [O, N]``, and the vectors of one side.

    ``vectors: [min(O, N), n]`` belong to the shorter side. ``n`` may be less than all.
    """

    matrix: Tensor
    s: Tensor
    vectors: Tensor

    def factors(self, rank: int) -> LowRank:
        """The matrix projected on its first ``rank`` vectors, balanced: ``u sqrt(s)``, ``sqrt(s) vt``.

        With exact vectors the nearest matrix of that rank (Eckart and Young, Psychometrika 1,
        1936). The entry of largest magnitude in each column of ``u`` is positive.
        """
        short, root = self.vectors[:, :rank], self.s[:rank].sqrt()
        wide = self.matrix.shape[0] <= self.matrix.shape[1]
        long = _short(self.matrix).T @ short
        u = short if wide else long
        signed = column_signs(u)
        kept, other = short * (signed * root), long * (signed / root)
        return LowRank(kept, other.T.contiguous()) if wide else LowRank(other, kept.T.contiguous())


def spectrum(matrix: Tensor) -> Spectrum:
    """The exact SVD of ``matrix: [O, N]``, by way of a triangle where it is not square.

    Raises :class:`BuildError` ``no-svd`` when LAPACK does not converge.

    *Numerics*: every singular value is right to a small multiple of ``eps * s_0``. Beside the
    matrix, which is not copied, memory is some matrices of ``min(O, N)`` rows and columns.
    """
    short = _short(matrix)
    u, s = _left(_triangle(short.T).T if short.shape[0] < short.shape[1] else short)
    return Spectrum(matrix, s, u)


def leading_spectrum(matrix: Tensor, rank: int) -> Spectrum:
    """What :func:`spectrum` gives, where only the first ``rank`` vectors are wanted, most often faster.

    By the eigenvectors of the smaller Gram matrix, which takes less than half of the time
    (measured: 0.5 s for 1.2 s of 1280 x 1280). Where one of the wanted values is too small for
    that, it is :func:`spectrum`. Raises what that raises.

    *Numerics*: an eigenvalue is right to a small multiple of ``eps * s_0^2``, and so is ``s_j`` to
    one of ``eps * s_0^2 / s_j``: in float64 some 1e-11 of ``s_0`` at worst, since what is taken is above
    ``1e-5 s_0``. In float32 nothing ever is so far above rounding.
    """
    short = _short(matrix)
    try:
        squares, vectors = torch.linalg.eigh(short @ short.T)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # missing in torch's __all__
        raise BuildError("no-svd", f"no singular value decomposition: {error}") from None
    s = squares.flip(0).clamp(min=0.0).sqrt()
    if not float(s[min(rank, len(s)) - 1]) > _SQUARED * torch.finfo(s.dtype).eps ** 0.5 * float(s[0]):
        return spectrum(matrix)
    return Spectrum(matrix, s, vectors.flip(1))


def spectral_norm(matrix: Tensor) -> float:
    """The largest singular value of ``matrix: [O, N]``, from the eigenvalues of the smaller Gram matrix.

    *Numerics*: the eigenvalue is right to a small multiple of ``eps * s_0^2``, which for the largest
    is one of ``eps`` itself. Measured: 0.15 s of one core for 1280 x 1280, 0.5 s
    for 10240 x 1280. Iterations from random vectors take half of that and can be short of it.
    Raises :class:`BuildError` ``no-svd`` when LAPACK does not converge.
    """
    short = _short(matrix)
    try:
        gram = (short @ short.T).to("cpu")  # Apple's devices have no eigenvalues
        return float(torch.linalg.eigvalsh(gram)[-1].clamp(min=0.0).sqrt())
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # missing in torch's __all__
        raise BuildError("no-svd", f"no singular value decomposition: {error}") from None


def low_rank(matrix: Tensor, rank: int, name: str, negligible: float) -> Spectrum | None:
    """What :func:`spectrum` gives, but for values of at most ``negligible``, where few are above it.

    ``None`` where that is not so: more than ``rank`` and some, or too much left besides. The
    norm of all that is left is measured, and no singular value of it is larger.
    """
    found = sketch(matrix, rank, name, iterations=1)
    short, basis = _short(matrix), found.vectors
    left = 0.0
    for start in range(0, short.shape[1], _STEPS * short.shape[0]):
        part = short[:, start : start + _STEPS * short.shape[0]]
        left += float(torch.linalg.vector_norm(part - basis @ (basis.T @ part))) ** 2
    return found if left <= negligible**2 else None


def sketch(matrix: Tensor, rank: int, name: str, *, iterations: int = _ITERATIONS) -> Spectrum:
    """The largest singular values of ``matrix: [O, N]``, by randomized subspace iteration.

    ``rank`` and 16 more, from random vectors that follow from ``name`` alone. None is
    above the true one; how much is missed must be measured.

    *Source*: Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review
    53(2), 2011, algorithms 4.4 and 5.1.
    """
    short = _short(matrix)
    size = min(short.shape[0], rank + _OVERSAMPLES)
    found = near_normal(0, name, short.shape[0], size).to(short)
    for _ in range(iterations):
        found = torch.linalg.qr(short @ torch.linalg.qr(short.T @ found)[0])[0]
    u, s = _left(_triangle(short.T @ found).T)
    return Spectrum(matrix, s, found @ u)


def _short(matrix: Tensor) -> Tensor:
    """The matrix, or its transpose, with no more rows than columns."""
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def _left(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors and singular values."""
    try:
        u, s, _ = torch.linalg.svd(matrix, full_matrices=False)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # missing in torch's __all__
        raise BuildError("no-svd", f"no singular value decomposition: {error}") from None
    return u, s


def _triangle(tall: Tensor) -> Tensor:
    """``r`` of ``tall = q r``, ``[R, R]``: some rows at a time, each step stacked under the last ``r``.

    *Source*: Demmel, Grigori, Hoemmen and Langou, "Communication-optimal parallel and
    sequential QR and LU factorizations", SIAM J. Sci. Comput. 34(1), 2012.
    """
    rank = tall.shape[1]
    r = tall.new_empty(0, rank)
    for start in range(0, tall.shape[0], _STEPS * rank):
        stacked = torch.cat([r, tall[start : start + _STEPS * rank]])
        r = torch.linalg.qr(stacked, mode="r")[1]
    return r
