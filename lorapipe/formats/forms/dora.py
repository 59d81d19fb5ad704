"""DoRA as LyCORIS, kohya's descendants and OneTrainer write it: a delta and ``dora_scale``.

``dora_scale: [O, 1, ...]`` are the lengths of rows, ``[1, I, 1, ...]`` those of input channels:
the axis is told by the shape, in which the one of length 1 comes first or last. The delta
is of any format with factors. (KohakuBlueleaf/LyCORIS f49d30d ``lycoris/modules``.)
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from lorapipe.formats.forms.form import AdapterForm, Measured, Specs, Tensors
from lorapipe.formats.forms.shapes import badly_shaped
from lorapipe.formats.forms.wrapped import ROLES, delta, measure_delta

if TYPE_CHECKING:
    from lorapipe.weights.operators.dora import DoRA

__all__ = ["FORM"]

_SCALE = ".dora_scale"


def _measure(tensors: Specs) -> Measured:
    inner = measure_delta(_without(tensors))
    out, into, *kernel = inner.shape
    shape, count = tensors[_SCALE].shape, tensors[_SCALE].size
    if _on_rows(shape, out):
        return Measured(inner.shape, 0, inner.divisor, cuts=((out, 1),))
    # Where a format does not tell the kernel, it has some columns for each channel.
    channels = count == into or (not kernel and count and into % count == 0)
    if shape[:2] != (1, count) or not channels:
        raise badly_shaped(tensors)
    return Measured(inner.shape, 0, inner.divisor)


def _on_rows(shape: tuple[int, ...], out: int) -> bool:
    return shape[:1] == (out,) and prod(shape) == out


def _without(tensors: Specs) -> Specs:
    return {role: tensor for role, tensor in tensors.items() if role != _SCALE}


def _value(tensors: Tensors, alpha: float | None) -> DoRA:
    from lorapipe.weights.operators.dora import DoRA  # it needs torch

    inner, coefficient = delta({r: read for r, read in tensors.items() if r != _SCALE}, alpha)
    scale = tensors[_SCALE]()
    on_input = not _on_rows(tuple(scale.shape), inner.shape[0])
    return DoRA(inner, coefficient, scale.flatten(), on_input)


FORM = AdapterForm(
    name="DoRA",
    roles={**ROLES, _SCALE: ()},
    needed=frozenset({_SCALE}),
    measure=_measure,
    value=_value,
    additive=False,
)
