"""PEFT's DoRA of an embedding: lengths along the embedding, not of the words.

``A: [r, n]`` and ``B: [d, r]`` as in a LoRA of an embedding, for a weight ``[n, d]``;
``lora_magnitude_vector: [d]`` are the lengths of the rows of its transpose.
(huggingface/peft 0.21.2 ``tuners/lora/dora.py``, ``DoraEmbeddingLayer``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorapipe.formats.forms import embedding, lora
from lorapipe.formats.forms.form import AdapterForm, Measured, Specs, Tensors
from lorapipe.formats.forms.shapes import badly_shaped

if TYPE_CHECKING:
    from lorapipe.weights.operators.dora import DoRA

__all__ = ["FORM"]

_B, _A = embedding.FORM.roles
_MAGNITUDE = ".lora_magnitude_vector"


def _measure(tensors: Specs) -> Measured:
    """Shape ``[d, n]``, which the reader transposes."""
    inner = embedding.FORM.measure({role: tensors[role] for role in embedding.FORM.roles})
    if tensors[_MAGNITUDE].shape != inner.shape[:1]:
        raise badly_shaped(tensors)
    return Measured(inner.shape, 0, inner.divisor, cuts=((inner.shape[0], 1),))


def _value(tensors: Tensors, alpha: float | None) -> DoRA:
    from lorapipe.weights.operators.dora import MAGNITUDE, DoRA  # they need torch
    from lorapipe.weights.structures.structure import LowRank

    delta = LowRank(tensors[_B](), tensors[_A]())
    coefficient = 1.0 if alpha is None else alpha / delta.rank
    names = {lora.UP: _B, lora.DOWN: _A}
    return DoRA(delta, coefficient, tensors[_MAGNITUDE](), role=MAGNITUDE, names=names)


FORM = AdapterForm(
    name="PEFT DoRA of an embedding",
    roles={**embedding.FORM.roles, _MAGNITUDE: (".lora_magnitude_vector.weight",)},
    needed=frozenset({_A, _B, _MAGNITUDE}),
    measure=_measure,
    value=_value,
    additive=False,
    transposed=True,
)
