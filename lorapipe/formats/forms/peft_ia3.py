"""IA3 as PEFT writes it: ``ia3_l``, what rows, or input channels of feed-forward layers, are multiplied by.

``[O, 1]`` or ``[1, I]``; a convolution's ``[1, n, 1, ...]`` has its side in the config alone. The
bias of a layer whose rows are multiplied is multiplied with them. (huggingface/peft 0.21.2
``tuners/ia3``.)
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from lorapipe.formats.forms.form import AdapterForm, Measured, Misshapen, Settings, Specs, Tensors
from lorapipe.formats.forms.shapes import badly_shaped, shown
from lorapipe.weights.inference.cuts import ANYWHERE

if TYPE_CHECKING:
    from lorapipe.weights.operators.ia3 import IA3

__all__ = ["FORM"]

_GAIN = ".ia3_l"


def _measure(tensors: Specs, on_input: bool | None = None) -> Measured:
    """``on_input`` is what the config says, where there is one."""
    shape = tensors[_GAIN].shape
    size = tensors[_GAIN].size
    if len(shape) < 2 or not size or max(shape) != size:
        raise badly_shaped(tensors)
    if on_input is None and len(shape) > 2:
        raise Misshapen("half-missing", f"{shown(tensors)}, whose side only adapter_config.json says")
    if _side(shape, on_input):
        return Measured((0, size, *(0 for _ in shape[2:])), 0, cuts=ANYWHERE)
    return Measured((size, 0), 0, cuts=((size, 1),), biased=True)


def _side(shape: tuple[int, ...], on_input: bool | None) -> bool:
    """Whether the gains are those of input channels."""
    return shape[0] == 1 and shape[1] != 1 if on_input is None else on_input


def _configured(settings: Settings) -> AdapterForm:
    """The format by PEFT's settings: ``feedforward`` says that the gains are for input channels."""
    on_input = bool(settings.get("feedforward"))
    return replace(
        FORM, measure=partial(_measure, on_input=on_input), value=partial(_value, on_input=on_input)
    )


def _value(tensors: Tensors, alpha: float | None, on_input: bool | None = None) -> IA3:  # noqa: ARG001  # it has none
    from lorapipe.weights.operators.ia3 import IA3  # it needs torch

    gain = tensors[_GAIN]()
    return IA3(gain.flatten(), _side(tuple(gain.shape), on_input), of_peft=True)


FORM = AdapterForm(
    name="PEFT IA3",
    roles={_GAIN: ()},
    needed=frozenset({_GAIN}),
    measure=_measure,
    value=_value,
    additive=False,
    configured=_configured,
)
