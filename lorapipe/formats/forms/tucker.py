"""Tucker's LoRA, or LoCon with ``use_tucker``: three convolutions, of which the middle one has the kernel.

The delta is ``alpha / r * einsum("om,mn...,ni->oi...", up, mid, down)`` with ``up: [O, r]``,
``mid: [r, r, kh, kw]``, ``down: [r, I]``, up and down with or without a 1x1 kernel of their own.
*Source*: KohakuBlueleaf/LyCORIS f49d30d ``lycoris/modules/locon.py``. kohya-ss/sd-scripts 48d368f
merges and resizes such modules without ``mid``.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from lorapipe.formats.forms.form import AdapterForm, Measured, Misshapen, Specs, Tensors
from lorapipe.formats.forms.shapes import all_of, core, left, shown
from lorapipe.weights.inference.forms import TUCKER

if TYPE_CHECKING:
    from lorapipe.weights.structures.products import Tucker

__all__ = ["FORM"]

UP, MID, DOWN = ".lora_up.weight", ".lora_mid.weight", ".lora_down.weight"


def _measure(tensors: Specs) -> Measured:
    all_of(tensors, UP, DOWN)
    (out, above), (below, into) = left(tensors, UP), left(tensors, DOWN)
    kernel = core(tensors, MID, above, below)
    if above != below:
        raise Misshapen("ranks-disagree", shown(tensors))
    return Measured((out, into, *kernel), min(above, out, into * prod(kernel)), below)


def _value(tensors: Tensors, alpha: float | None) -> Tucker:  # noqa: ARG001  # alpha is the coefficient's
    from lorapipe.weights.structures.products import Tucker  # it needs torch

    return Tucker(tensors[UP]().flatten(1), tensors[MID](), tensors[DOWN]().flatten(1))


FORM = AdapterForm(
    name=TUCKER,
    roles={DOWN: (), MID: (), UP: ()},
    needed=frozenset({MID}),
    measure=_measure,
    value=_value,
)
