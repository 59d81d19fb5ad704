"""A LoRA for a larger weight than the model's, which is padded with zeros first: ``reshape_weight``.

``reshape_weight`` holds the larger shape as integers; the factors have it as well, and tell it
where a reader knows without ``reshape_weight`` what is meant (Black Forest Labs' own files).
(comfyanonymous/ComfyUI 0323d87 ``comfy/weight_adapter/lora.py``; Flux's control LoRAs.)
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from lorapipe.errors import InputError
from lorapipe.formats.forms import lora
from lorapipe.formats.forms.form import AdapterForm, Measured, Specs, Tensors
from lorapipe.formats.forms.shapes import badly_shaped
from lorapipe.formats.forms.wrapped import delta, measure_delta

if TYPE_CHECKING:
    from lorapipe.weights.operators.full_weight import Padded

__all__ = ["FORM"]

_TARGET = ".reshape_weight"


def _measure(tensors: Specs) -> Measured:
    inner = measure_delta({role: tensor for role, tensor in tensors.items() if role != _TARGET})
    if _TARGET in tensors and tensors[_TARGET].shape != (len(inner.shape),):
        raise badly_shaped(tensors)
    return Measured(inner.shape, 0, inner.divisor, grows=True)


def _value(tensors: Tensors, alpha: float | None) -> Padded:
    from lorapipe.weights.operators.full_weight import Padded  # it needs torch

    inner, coefficient = delta({r: read for r, read in tensors.items() if r != _TARGET}, alpha)
    out, columns = inner.shape
    shape = tuple(int(size) for size in tensors[_TARGET]().tolist()) if _TARGET in tensors else inner.shape
    if min(shape) < 1 or shape[0] != out or prod(shape[1:]) != columns:
        raise InputError(
            "bad-factor-shape", f"it is to be of shape {list(shape)}, its factors are {list(inner.shape)}"
        )
    return Padded(inner, coefficient, shape)


FORM = AdapterForm(
    name="padded LoRA",
    roles={**lora.FORM.roles, _TARGET: ()},
    needed=frozenset({_TARGET}),
    measure=_measure,
    value=_value,
    additive=False,
)
