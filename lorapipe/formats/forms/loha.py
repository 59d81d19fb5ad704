"""LoHa: two low-rank products, multiplied element by element.

The delta is ``alpha / r * (w1_a @ w1_b) * (w2_a @ w2_b)`` with ``w*_a: [O, r]`` and
``w*_b: [r, I*k]``: a convolution's kernel is not told. With cores ``t*: [r, r, *k]`` it is
``alpha / r * m1 * m2``, ``m = einsum("ij...,ip,jq->pq...", t, w_a, w_b)``, where both factors
stand on ranks: ``w*_a: [r, O]``, ``w*_b: [r, I]``.
*Source*: KohakuBlueleaf/LyCORIS f49d30d ``lycoris/modules/loha.py``, whose ``get_diff_weight``
applies alpha / r twice, its ``forward`` once; huggingface/peft 0.21.2 ``tuners/loha``.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from lorapipe.formats.forms.form import AdapterForm, Measured, Misshapen, Specs, Tensors
from lorapipe.formats.forms.shapes import all_of, badly_shaped, core, left, right, shown
from lorapipe.weights.inference.forms import LOHA

if TYPE_CHECKING:
    from lorapipe.weights.structures.products import Hadamard, Tucker
    from lorapipe.weights.structures.structure import LowRank

__all__ = ["FORM"]

_A, _B, _CORE = (".hada_w1_a", ".hada_w2_a"), (".hada_w1_b", ".hada_w2_b"), (".hada_t1", ".hada_t2")


def _measure(tensors: Specs) -> Measured:
    all_of(tensors, *_A, *_B)
    if any(role in tensors for role in _CORE):
        all_of(tensors, *_CORE)
    (first, one), (second, two) = (_half(tensors, number) for number in (0, 1))
    if first != second:
        raise badly_shaped(tensors)
    if one != two:
        raise Misshapen("ranks-disagree", shown(tensors))
    return Measured(first, min(one * two, first[0], prod(first[1:])), one)


def _half(tensors: Specs, number: int) -> tuple[tuple[int, ...], int]:
    """Shape ``[O, I, *k]`` and rank of a product."""
    a, b = _A[number], _B[number]
    if _CORE[number] in tensors:
        (above, out), (below, into) = left(tensors, a), left(tensors, b)
        if above != below:
            raise Misshapen("ranks-disagree", shown(tensors))
        return (out, into, *core(tensors, _CORE[number], above, below)), below
    (out, above), (below, columns) = left(tensors, a), right(tensors, b)
    if above != below:
        raise Misshapen("ranks-disagree", shown(tensors))
    return (out, *columns), below


def _value(tensors: Tensors, alpha: float | None) -> Hadamard:  # noqa: ARG001  # alpha is the coefficient's
    from lorapipe.weights.structures.products import Hadamard  # it needs torch

    return Hadamard(_product(tensors, 0), _product(tensors, 1))


def _product(tensors: Tensors, number: int) -> LowRank | Tucker:
    from lorapipe.weights.structures.products import Tucker  # it needs torch
    from lorapipe.weights.structures.structure import LowRank

    a, b = tensors[_A[number]]().flatten(1), tensors[_B[number]]().flatten(1)
    if _CORE[number] in tensors:
        return Tucker(a.T, tensors[_CORE[number]](), b)
    return LowRank(a, b)


FORM = AdapterForm(
    name=LOHA,
    roles=dict.fromkeys((_A[0], _B[0], _A[1], _B[1], *_CORE), ()),
    needed=frozenset(),
    measure=_measure,
    value=_value,
)
