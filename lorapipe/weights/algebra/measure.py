"""Measures of deltas that are never formed."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lorapipe.weights.linalg.svd import core
from lorapipe.weights.structures.delta import Delta

__all__ = ["norm", "relative_error"]


def norm(delta: Delta, dtype: torch.dtype = torch.float64) -> float:
    """The Frobenius norm of ``sum c * up @ down``, by way of its small core.

    *Numerics*: the error is a small multiple of ``eps * norm(up) * norm(down)``. The
    shorter ``sqrt(sum(up^T up * down down^T))`` squares the numbers first, and is wrong
    from the eighth digit on where terms nearly cancel.
    """
    return float(torch.linalg.matrix_norm(core(delta, dtype)))


def relative_error(result: Delta, terms: Sequence[tuple[float, Delta]]) -> float:
    """``norm(result - sum w_i delta_i) / sum |w_i| norm(delta_i)``.

    Relative to what went in, not to what came out, which may be next to nothing in a
    difference of two LoRAs. 0 of nothing.
    """
    difference = result.joined(*(delta.scaled(-weight) for weight, delta in terms))
    scale = sum(abs(weight) * norm(delta) for weight, delta in terms)
    return norm(difference) / scale if scale else norm(difference)
