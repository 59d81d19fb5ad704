"""Full differences: what a weight, a bias or a norm gains, number by number.

A weight's ``diff: [O, I, *k]``, a bias's ``diff_b: [O]``, a norm's ``w_norm`` and ``b_norm: [O]``
are all of the one role ``.diff`` here, each a module of its own; there is no alpha.
*Source*: KohakuBlueleaf/LyCORIS f49d30d ``lycoris/modules/full.py``, ``norms.py``.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from lorapipe.formats.forms.form import AdapterForm, Measured, Specs, Tensors
from lorapipe.formats.forms.shapes import badly_shaped
from lorapipe.weights.inference.forms import FULL

if TYPE_CHECKING:
    from lorapipe.weights.structures.structure import Dense

__all__ = ["FORM"]

_DIFF = ".diff"


def _measure(tensors: Specs) -> Measured:
    shape = tensors[_DIFF].shape
    if not shape or not prod(shape):
        raise badly_shaped(tensors)
    return Measured(shape, min(shape[0], prod(shape[1:])))


def _value(tensors: Tensors, alpha: float | None) -> Dense:  # noqa: ARG001  # it has none
    from lorapipe.weights.structures.structure import Dense  # it needs torch

    matrix = tensors[_DIFF]()
    return Dense(matrix.reshape(matrix.shape[0], -1))


FORM = AdapterForm(
    name=FULL,
    roles={_DIFF: ()},
    needed=frozenset({_DIFF}),
    measure=_measure,
    value=_value,
)
