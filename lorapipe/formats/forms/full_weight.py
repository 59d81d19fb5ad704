"""A whole parameter that takes the place of the model's: ``set_weight``, PEFT's ``modules_to_save``.

(comfyanonymous/ComfyUI 9c0cf36 ``comfy/lora.py``; huggingface/peft 0.21.2 ``utils/other.py``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorapipe.formats.forms.form import AdapterForm, Measured, Specs, Tensors

if TYPE_CHECKING:
    from lorapipe.weights.operators.full_weight import FullWeight

__all__ = ["FORM"]

_SET = ".set_weight"


def _measure(tensors: Specs) -> Measured:
    shape = tensors[_SET].shape
    return Measured(shape, 0, cuts=((shape[0], 1),) if shape and shape[0] else ())


def _value(tensors: Tensors, alpha: float | None) -> FullWeight:  # noqa: ARG001  # it has none
    from lorapipe.weights.operators.full_weight import FullWeight  # it needs torch

    return FullWeight(tensors[_SET]())


FORM = AdapterForm(
    name="full weight",
    roles={_SET: ()},
    needed=frozenset({_SET}),
    measure=_measure,
    value=_value,
    additive=False,
)
