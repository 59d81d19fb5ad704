"""DoRA as PEFT writes it: a LoRA and ``lora_magnitude_vector``, the lengths of rows.

``[O]``, of a convolution ``[1, O, 1, 1]``, which looks like lengths of input channels and is
not. (huggingface/peft 0.21.2 ``tuners/lora/dora.py``.)
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from lorapipe.formats.forms import lora
from lorapipe.formats.forms.form import AdapterForm, Measured, Specs, Tensors
from lorapipe.formats.forms.shapes import badly_shaped
from lorapipe.formats.forms.wrapped import delta, measure_delta

if TYPE_CHECKING:
    from lorapipe.weights.operators.dora import DoRA

__all__ = ["FORM"]

_MAGNITUDE = ".lora_magnitude_vector"


def _measure(tensors: Specs) -> Measured:
    inner = measure_delta({role: tensor for role, tensor in tensors.items() if role != _MAGNITUDE})
    shape, out = tensors[_MAGNITUDE].shape, inner.shape[0]
    if out not in shape or prod(shape) != out:
        raise badly_shaped(tensors)
    return Measured(inner.shape, 0, inner.divisor, cuts=((out, 1),))


def _value(tensors: Tensors, alpha: float | None) -> DoRA:
    from lorapipe.weights.operators.dora import MAGNITUDE, DoRA  # they need torch

    inner, coefficient = delta({r: read for r, read in tensors.items() if r != _MAGNITUDE}, alpha)
    return DoRA(inner, coefficient, tensors[_MAGNITUDE]().flatten(), role=MAGNITUDE)


FORM = AdapterForm(
    name="PEFT DoRA",
    roles={**lora.FORM.roles, _MAGNITUDE: (".lora_magnitude_vector.weight",)},
    needed=frozenset({_MAGNITUDE}),
    measure=_measure,
    value=_value,
    additive=False,
)
