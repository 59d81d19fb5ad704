"""LoKr: the Kronecker product of a small and a large matrix, either whole or as factors.

The delta is ``s * kron(w1, w2)`` with ``w1: [a, c]``, ``w2: [b, d]`` or ``[b, d, *k]``, so that
O = a*b and I = c*d; ``w1 = w1_a @ w1_b``, ``w2 = w2_a @ w2_b`` where they are factors, ``w2_b``
of a convolution ``[r, d*k]`` without its kernel, or with a core ``t2: [r, r, *k]``
``w2 = einsum("ij...,ip,jq->pq...", t2, w2_a, w2_b)``, ``w2_a: [r, b]``, ``w2_b: [r, d]``.
``s`` is alpha over the rows of ``w2_b``, else over those of ``w1_b``; 1 where neither half is
factors: alpha then says nothing (LyCORIS writes the rank, or what overflows fp16).
*Source*: KohakuBlueleaf/LyCORIS f49d30d ``lycoris/modules/lokr.py``; huggingface/peft 0.21.2
``tuners/lokr``, whose config's alpha counts in every case.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from lorapipe.formats.forms.form import AdapterForm, Measured, Misshapen, Specs, Tensors
from lorapipe.formats.forms.shapes import all_of, core, left, right, shown
from lorapipe.weights.inference.forms import LOKR

if TYPE_CHECKING:
    from torch import Tensor

    from lorapipe.weights.structures.products import Kronecker, Tucker
    from lorapipe.weights.structures.structure import Dense, LowRank

__all__ = ["FORM"]

_W1, _W1A, _W1B = ".lokr_w1", ".lokr_w1_a", ".lokr_w1_b"
_W2, _W2A, _W2B, _T2 = ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2"


def _measure(tensors: Specs) -> Measured:
    a, c, first, small = _one(tensors)
    b, (d, *kernel), second, large = _two(tensors)
    out, columns = a * b, c * d * prod(kernel)
    rank = min(first, a, c) * min(second, b, d * prod(kernel))
    return Measured((out, c * d, *kernel), min(rank, out, columns), large or small)


def _one(tensors: Specs) -> tuple[int, int, int, int | None]:
    """``a``, ``c``, the rank of the small matrix, and what alpha is divided by if it is factors."""
    if _whole(tensors, _W1, _W1A, _W1B):
        a, c = left(tensors, _W1)
        return a, c, min(a, c), None
    (a, above), (below, c) = left(tensors, _W1A), left(tensors, _W1B)
    _same(above, below, tensors)
    return a, c, below, below


def _two(tensors: Specs) -> tuple[int, tuple[int, ...], int, int | None]:
    """``b``, ``(d, *k)``, the rank of the large matrix, and what alpha is divided by if it is factors."""
    if _whole(tensors, _W2, _W2A, _W2B, _T2):
        b, columns = right(tensors, _W2)
        return b, columns, min(b, prod(columns)), None
    if _T2 in tensors:
        (above, b), (below, d) = left(tensors, _W2A), left(tensors, _W2B)
        _same(above, below, tensors)
        return b, (d, *core(tensors, _T2, above, below)), below, below
    (b, above), (below, columns) = left(tensors, _W2A), right(tensors, _W2B)
    _same(above, below, tensors)
    return b, columns, below, below


def _whole(tensors: Specs, whole: str, *factors: str) -> bool:
    """Whether a half is one matrix; else it is its first two ``factors``, both of them."""
    if whole not in tensors:
        all_of(tensors, *factors[:2])
        return False
    if any(role in tensors for role in factors):
        raise Misshapen("mixed-formats", shown(tensors))
    return True


def _same(above: int, below: int, tensors: Specs) -> None:
    if above != below:
        raise Misshapen("ranks-disagree", shown(tensors))


def _value(tensors: Tensors, alpha: float | None) -> Kronecker:
    from lorapipe.weights.structures.products import Kronecker  # it needs torch

    return Kronecker(_small(tensors), _large(tensors), alpha=alpha)


def _small(tensors: Tensors) -> Dense | LowRank:
    from lorapipe.weights.structures.structure import Dense, LowRank  # they need torch

    if _W1 in tensors:
        return Dense(_flat(tensors, _W1))
    return LowRank(_flat(tensors, _W1A), _flat(tensors, _W1B))


def _large(tensors: Tensors) -> Dense | LowRank | Tucker:
    from lorapipe.weights.structures.products import Tucker  # it needs torch
    from lorapipe.weights.structures.structure import Dense, LowRank

    if _W2 in tensors:
        return Dense(_flat(tensors, _W2))
    if _T2 in tensors:
        return Tucker(_flat(tensors, _W2A).T, tensors[_T2](), _flat(tensors, _W2B))
    return LowRank(_flat(tensors, _W2A), _flat(tensors, _W2B))


def _flat(tensors: Tensors, role: str) -> Tensor:
    return tensors[role]().flatten(1)


FORM = AdapterForm(
    name=LOKR,
    roles=dict.fromkeys((_W1, _W1A, _W1B, _W2, _W2A, _W2B, _T2), ()),
    needed=frozenset(),
    measure=_measure,
    value=_value,
)
