"""OFT as the first LyCORIS wrote it: ``oft_diag: [n, b, b]``, the rotations themselves.

(AUTOMATIC1111/stable-diffusion-webui ``extensions-builtin/Lora/network_oft.py``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorapipe.formats.forms.form import AdapterForm, Measured, Specs, Tensors
from lorapipe.formats.forms.oft import RESCALE, check_rescale, height, rescale

if TYPE_CHECKING:
    from lorapipe.weights.operators.oft import OFT

__all__ = ["FORM"]

_DIAGONAL = ".oft_diag"


def _measure(tensors: Specs) -> Measured:
    out = height(tensors, _DIAGONAL)
    check_rescale(tensors, out)
    return Measured((out, 0), 0, cuts=((out, tensors[_DIAGONAL].shape[1]),))


def _value(tensors: Tensors, alpha: float | None) -> OFT:  # noqa: ARG001  # it has none, or one without meaning
    from lorapipe.weights.operators.oft import OFT, Rotations  # they need torch

    blocks = tensors[_DIAGONAL]()
    return OFT((Rotations.of(blocks, blocks.shape[0] * blocks.shape[1]),), rescale(tensors), direct=True)


FORM = AdapterForm(
    name="old OFT",
    roles={_DIAGONAL: (), RESCALE: ()},
    needed=frozenset({_DIAGONAL}),
    measure=_measure,
    value=_value,
    additive=False,
)
