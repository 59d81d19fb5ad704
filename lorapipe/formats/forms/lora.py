"""LoRA and LoCon: two factors, in every spelling that trainers and converters give them.

The delta is ``alpha / r * up @ down`` with ``up: [O, r]`` or ``[O, r, 1, 1]`` and
``down: [r, I]`` or ``[r, I, kh, kw]``. PEFT calls them B and A, in this order.
(Names: kohya-ss/sd-scripts 48d368f ``networks/lora.py``; huggingface/peft 0.21.2
``tuners/lora``; huggingface/diffusers 0.42.1 ``loaders``; XLabs-AI/x-flux.)
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from lorapipe.formats.forms.form import AdapterForm, Measured, Misshapen, Specs, Tensors

if TYPE_CHECKING:
    from lorapipe.weights.structures.structure import LowRank

__all__ = ["DOWN", "FORM", "UP"]

UP, DOWN = ".lora_up.weight", ".lora_down.weight"

_SPELLINGS = (
    (".lora_B.weight", ".lora_A.weight"),
    (".lora_B", ".lora_A"),
    ("_lora.up.weight", "_lora.down.weight"),
    (".lora.up.weight", ".lora.down.weight"),
    (".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"),
    (".up.weight", ".down.weight"),
)
"""How others than kohya write (up, down)."""


def _measure(tensors: Specs) -> Measured:
    """Shape ``[O, I, *k]`` and rank; the factors need not have the same number of axes.

    Trainers and converters mix 2-D factors with 1x1 kernels. Raises :class:`Misshapen`
    ``bad-factor-shape`` or ``ranks-disagree``.
    """
    up, down = tensors[UP].shape, tensors[DOWN].shape
    if len(up) < 2 or len(down) < 2 or prod(up[2:]) != 1 or not (prod(up) and prod(down)):
        raise Misshapen("bad-factor-shape", f"up {list(up)}, down {list(down)}")
    if up[1] != down[0]:
        raise Misshapen("ranks-disagree", f"up {list(up)}, down {list(down)}")
    kernel = down[2:] or up[2:]
    return Measured((up[0], down[1], *kernel), up[1], up[1])


def _value(tensors: Tensors, alpha: float | None) -> LowRank:  # noqa: ARG001  # alpha is the coefficient's
    from lorapipe.weights.structures.structure import LowRank  # it needs torch

    return LowRank(tensors[UP]().flatten(1), tensors[DOWN]().flatten(1))


FORM = AdapterForm(
    name="LoRA",
    roles={UP: tuple(up for up, _ in _SPELLINGS), DOWN: tuple(down for _, down in _SPELLINGS)},
    needed=frozenset({UP, DOWN}),
    measure=_measure,
    value=_value,
    plain=True,
)
