"""GLoRA: ``alpha / r * (W a1 a2 + b1 b2)``, and, in old files, ``alpha / r * (W a2 a1 + b2 b1)``.

Of present files ``a1: [I, r]``, ``a2: [r, I]``, ``b1: [O, r]``, ``b2: [r, I, *k]``, with a core
``bm: [r, r, *k]`` between ``b1`` and ``b2: [r, I]``; of old ones ``a1: [r, I]``, ``a2: [I, r]``,
``b1: [r, I]``, ``b2: [O, r]``. Where both readings fit, which is so for square weights, it is
the one of lower rank. (KohakuBlueleaf/LyCORIS f49d30d ``lycoris/modules/glora.py``;
comfyanonymous/ComfyUI 17adbb5 ``comfy/weight_adapter/glora.py``.)
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from lorapipe.formats.forms.form import AdapterForm, Measured, Specs, Tensors
from lorapipe.formats.forms.shapes import all_of, badly_shaped, core, left, right

if TYPE_CHECKING:
    from lorapipe.weights.operators.glora import GLoRA

__all__ = ["FORM"]

_A1, _A2, _B1, _B2, _BM = (f".{name}.weight" for name in ("a1", "a2", "b1", "b2", "bm"))


def _measure(tensors: Specs) -> Measured:
    all_of(tensors, _A1, _A2, _B1, _B2)
    a1, a2, b1 = (left(tensors, role) for role in (_A1, _A2, _B1))
    below, (into, *kernel) = right(tensors, _B2)
    old = _is_old(a1, b1, tensors[_B2].shape, cored=_BM in tensors)
    if old is None or a2 != a1[::-1]:
        raise badly_shaped(tensors)
    if old:
        return Measured((below, a1[1]), 0, a1[0], cuts=((below, 1),))
    if _BM in tensors:
        left(tensors, _B2)
        kernel = list(core(tensors, _BM, below, below))
    return Measured((b1[0], into, *kernel), 0, below, cuts=((b1[0], 1),))


def _is_old(a1: tuple[int, ...], b1: tuple[int, ...], b2: tuple[int, ...], *, cored: bool) -> bool | None:
    """Whether shapes are those of an old file, by the lower rank if of either; ``None`` of neither."""
    new = (b1[1], b2[0], b2[1]) == (a1[1], a1[1], a1[0])
    old = (b1[0], b1[1], b2[1]) == (a1[0], a1[1], a1[0]) and prod(b2[2:]) == 1 and not cored
    if new and old:
        return a1[0] < a1[1]
    return old if new or old else None


def _value(tensors: Tensors, alpha: float | None) -> GLoRA:
    from lorapipe.weights.operators.glora import GLoRA  # they need torch
    from lorapipe.weights.structures.products import Tucker
    from lorapipe.weights.structures.structure import LowRank

    a1, a2, b1, b2 = (tensors[role]() for role in (_A1, _A2, _B1, _B2))
    old = bool(_is_old(tuple(a1.shape), tuple(b1.shape), tuple(b2.shape), cored=_BM in tensors))
    if old:
        a1, a2, b1, b2 = a2, a1, b2, b1
    up, down = b1.flatten(1), b2.flatten(1)
    delta = Tucker(up, tensors[_BM](), down) if _BM in tensors else LowRank(up, down)
    coefficient = 1.0 if alpha is None else alpha / a1.shape[1]
    return GLoRA(a1.flatten(1), a2.flatten(1), delta, coefficient, old)


FORM = AdapterForm(
    name="GLoRA",
    roles={_A1: (), _A2: (), _B1: (), _B2: (), _BM: ()},
    needed=frozenset({_A1}),
    measure=_measure,
    value=_value,
    additive=False,
)
