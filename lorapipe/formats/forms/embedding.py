"""PEFT's LoRA of an embedding: factors whose product is the transpose of the weight's delta.

``A: [r, n]`` and ``B: [d, r]`` for a weight ``[n, d]``; the delta is ``alpha / r * (B A)^T``.
(huggingface/peft 0.21.2 ``tuners/lora/layer.py``, ``Embedding.get_delta_weight``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorapipe.formats.forms.form import AdapterForm, Measured, Misshapen, Specs, Tensors

if TYPE_CHECKING:
    from lorapipe.weights.structures.structure import LowRank

__all__ = ["EMBEDDED_UP", "FORM"]

EMBEDDED_UP, _DOWN = ".lora_embedding_B", ".lora_embedding_A"


def _measure(tensors: Specs) -> Measured:
    """Shape ``[d, n]`` of ``B A``, which the reader transposes, and rank.

    Raises :class:`Misshapen` ``bad-factor-shape`` or ``ranks-disagree``.
    """
    a, b = tensors[_DOWN].shape, tensors[EMBEDDED_UP].shape
    shown = f"B {list(b)}, A {list(a)}"
    if len(a) != 2 or len(b) != 2 or 0 in a + b:
        raise Misshapen("bad-factor-shape", shown)
    if b[1] != a[0]:
        raise Misshapen("ranks-disagree", shown)
    return Measured((b[0], a[1]), b[1], b[1])


def _value(tensors: Tensors, alpha: float | None) -> LowRank:  # noqa: ARG001  # alpha is the coefficient's
    from lorapipe.weights.structures.structure import LowRank  # it needs torch

    return LowRank(tensors[EMBEDDED_UP](), tensors[_DOWN]())


FORM = AdapterForm(
    name="LoRA of an embedding",
    roles={EMBEDDED_UP: (), _DOWN: ()},
    needed=frozenset({EMBEDDED_UP, _DOWN}),
    measure=_measure,
    value=_value,
    plain=True,
    transposed=True,
)
