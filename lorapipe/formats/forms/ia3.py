"""IA3 as LyCORIS writes it: ``weight``, a gain for each row or input channel, and ``on_input``.

``weight: [n]``, of a convolution ``[1, n, 1, ...]`` on either side; which side it is says
``on_input``, a number, so that headers tell no axis. (KohakuBlueleaf/LyCORIS f49d30d
``lycoris/modules/ia3.py``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorapipe.errors import InputError
from lorapipe.formats.forms.form import AdapterForm, Measured, Specs, Tensors
from lorapipe.formats.forms.shapes import badly_shaped
from lorapipe.weights.inference.cuts import ANYWHERE

if TYPE_CHECKING:
    from lorapipe.weights.operators.ia3 import IA3

__all__ = ["FORM"]

_GAIN, _ON_INPUT = ".weight", ".on_input"


def _measure(tensors: Specs) -> Measured:
    gain = tensors[_GAIN]
    if not gain.size or max(gain.shape, default=0) != gain.size or tensors[_ON_INPUT].size != 1:
        raise badly_shaped(tensors)
    return Measured((0, 0), 0, cuts=ANYWHERE)


def _value(tensors: Tensors, alpha: float | None) -> IA3:  # noqa: ARG001  # it has none
    from lorapipe.weights.operators.ia3 import IA3  # it needs torch

    side = float(tensors[_ON_INPUT]().reshape(()))
    if side not in {0.0, 1.0}:
        raise InputError("bad-flag", f"'on_input' is {side:g}, which is neither 0 nor 1")
    return IA3(tensors[_GAIN]().flatten(), on_input=side == 1.0)


FORM = AdapterForm(
    name="IA3",
    roles={_GAIN: (), _ON_INPUT: ()},
    needed=frozenset({_GAIN, _ON_INPUT}),
    measure=_measure,
    value=_value,
    additive=False,
)
