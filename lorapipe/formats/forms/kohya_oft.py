"""OFT as sd-scripts writes it for Flux: blocks for each part of a fused weight.

``oft_blocks.0`` to ``oft_blocks.3``, each ``[n, b, b]`` with a block size of its own; they follow
one another down the rows. (kohya-ss/sd-scripts 48d368f ``networks/oft_flux.py``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorapipe.errors import InputError
from lorapipe.formats.forms.form import AdapterForm, Measured, Specs, Tensors
from lorapipe.formats.forms.oft import check_limit, height
from lorapipe.formats.forms.shapes import all_of

if TYPE_CHECKING:
    from lorapipe.weights.operators.oft import OFT

__all__ = ["FORM"]

_BLOCKS = tuple(f".oft_blocks.{part}" for part in range(4))


def _measure(tensors: Specs) -> Measured:
    all_of(tensors, *_BLOCKS[: len(tensors)])
    cuts = tuple((height(tensors, role), tensors[role].shape[1]) for role in _BLOCKS[: len(tensors)])
    return Measured((sum(rows for rows, _ in cuts), 0), 0, cuts=cuts)


def _value(tensors: Tensors, alpha: float | None) -> OFT:
    from lorapipe.weights.operators.oft import OFT, Rotations  # they need torch

    check_limit(alpha)
    if alpha == 0.0:
        raise InputError("bad-alpha", "its alpha is 0, with which sd-scripts turns nothing")
    blocks = [tensors[role]() for role in _BLOCKS[: len(tensors)]]
    splits = tuple(Rotations.of(held, held.shape[0] * held.shape[1]) for held in blocks)
    return OFT(splits, None, alpha, numbered=True)


FORM = AdapterForm(
    name="kohya OFT",
    roles=dict.fromkeys(_BLOCKS, ()),
    needed=frozenset({_BLOCKS[0]}),
    measure=_measure,
    value=_value,
    additive=False,
)
