"""OFT and BOFT as LyCORIS and sd-scripts write them, which only the blocks' axes tell apart.

``oft_blocks: [n, b, b]`` are OFT's, ``[m, n, b, b]`` BOFT's; ``rescale: [O, 1, ...]``. ``alpha`` is
a limit, not a factor: see :mod:`lorapipe.weights.operators.oft`. (KohakuBlueleaf/LyCORIS
f49d30d ``lycoris/modules/diag_oft.py``, ``boft.py``; kohya-ss/sd-scripts 48d368f ``networks/oft.py``.)
"""

from __future__ import annotations

from math import isfinite, prod
from typing import TYPE_CHECKING

from lorapipe.errors import InputError
from lorapipe.formats.forms.form import AdapterForm, Measured, Specs, Tensors
from lorapipe.formats.forms.shapes import badly_shaped

if TYPE_CHECKING:
    from torch import Tensor

    from lorapipe.weights.operators.boft import BOFT
    from lorapipe.weights.operators.oft import OFT

__all__ = ["FORM", "RESCALE", "check_limit", "check_rescale", "height", "rescale"]

_BLOCKS, RESCALE = ".oft_blocks", ".rescale"


def _measure(tensors: Specs) -> Measured:
    shape = tensors[_BLOCKS].shape
    if len(shape) != 4:
        out = height(tensors, _BLOCKS)
        check_rescale(tensors, out)
        return Measured((out, 0), 0, cuts=((out, shape[-1]),))
    stages, count, size, other = shape
    group = 2 ** (stages - 1) * size
    if not prod(shape) or size != other or size % 2 or count * size % group:
        raise badly_shaped(tensors)
    check_rescale(tensors, count * size)
    return Measured((count * size, 0), 0, cuts=((count * size, group),), name="BOFT")


def height(tensors: Specs, role: str) -> int:
    """The rows of blocks ``[n, b, b]``. Raises :class:`Misshapen` ``bad-factor-shape``."""
    shape = tensors[role].shape
    if len(shape) != 3 or shape[1] != shape[2] or not prod(shape):
        raise badly_shaped(tensors)
    return shape[0] * shape[1]


def check_rescale(tensors: Specs, out: int) -> None:
    """Raise :class:`Misshapen` for a ``rescale`` that is not one number for each of ``out`` rows."""
    if RESCALE in tensors and (tensors[RESCALE].shape[:1] != (out,) or tensors[RESCALE].size != out):
        raise badly_shaped(tensors)


def check_limit(alpha: float | None) -> None:
    """Raise :class:`InputError` ``bad-alpha`` for an alpha that is no limit."""
    if alpha is not None and not (isfinite(alpha) and alpha >= 0.0):
        raise InputError("bad-alpha", f"its alpha is {alpha:g}, where 0 or a positive limit is due")


def rescale(tensors: Tensors) -> Tensor | None:
    """The factor of each row, flat."""
    return tensors[RESCALE]().flatten() if RESCALE in tensors else None


def _value(tensors: Tensors, alpha: float | None) -> OFT | BOFT:
    from lorapipe.weights.operators.boft import BOFT  # they need torch
    from lorapipe.weights.operators.oft import OFT, Rotations

    check_limit(alpha)
    blocks = tensors[_BLOCKS]()
    rotations = Rotations.of(blocks, blocks.shape[-3] * blocks.shape[-1])
    if blocks.ndim == 4:
        return BOFT(rotations, rescale(tensors), alpha)
    return OFT((rotations,), rescale(tensors), alpha)


FORM = AdapterForm(
    name="OFT",
    roles={_BLOCKS: (), RESCALE: ()},
    needed=frozenset({_BLOCKS}),
    measure=_measure,
    value=_value,
    additive=False,
)
