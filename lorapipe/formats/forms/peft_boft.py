"""BOFT as PEFT writes it: ``boft_R: [m, n, b, b]`` on the input side, ``boft_s`` for each row.

(huggingface/peft 0.21.2 ``tuners/boft``.)
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from lorapipe.formats.forms.form import AdapterForm, Measured, Specs, Tensors
from lorapipe.formats.forms.shapes import badly_shaped

if TYPE_CHECKING:
    from lorapipe.weights.operators.peft_boft import PeftBOFT

__all__ = ["FORM"]

_R, _S = ".boft_R", ".boft_s"


def _measure(tensors: Specs) -> Measured:
    shape = tensors[_R].shape
    if len(shape) != 4 or shape[2] != shape[3] or not prod(shape):
        raise badly_shaped(tensors)
    stages, count, size, _ = shape
    out = tensors[_S].size
    staged = stages == 1 or (size % 2 == 0 and count % 2 ** (stages - 1) == 0)
    if not out or max(tensors[_S].shape, default=1) != out or not staged:
        raise badly_shaped(tensors)
    return Measured((out, count * size), 0, cuts=((out, 1),))


def _value(tensors: Tensors, alpha: float | None) -> PeftBOFT:  # noqa: ARG001  # it has none
    from lorapipe.weights.operators.peft_boft import PeftBOFT  # it needs torch

    return PeftBOFT(tensors[_R](), tensors[_S]().flatten())


FORM = AdapterForm(
    name="PEFT BOFT",
    roles={_R: (), _S: ()},
    needed=frozenset({_R, _S}),
    measure=_measure,
    value=_value,
    additive=False,
)
