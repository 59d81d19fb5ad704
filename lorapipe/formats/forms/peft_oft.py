"""OFT as PEFT and OneTrainer write it: ``oft_R.weight: [n, b(b-1)/2]``, on the input side.

One row of numbers serves all blocks. Without PEFT's config it is read as OneTrainer's, whose
formula is PEFT's default but for kernels; ``oft_R.scaled_oft`` is OneTrainer's mark.
(huggingface/peft 0.21.2 ``tuners/oft``; Nerogar/OneTrainer 23df383 ``modules/module/oft_utils.py``.)
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import isqrt
from typing import TYPE_CHECKING

from lorapipe.formats.forms.form import AdapterForm, Measured, Settings, Specs, Tensors
from lorapipe.formats.forms.shapes import badly_shaped
from lorapipe.weights.inference.cuts import ANYWHERE

if TYPE_CHECKING:
    from lorapipe.weights.operators.peft_oft import PeftOFT

__all__ = ["FORM"]

_R, _SCALED = ".oft_R.weight", ".oft_R.scaled_oft"
_TERMS, _LIMIT = 5, 6e-5
"""PEFT's defaults."""


def _measure(tensors: Specs) -> Measured:
    shape = tensors[_R].shape
    if len(shape) != 2 or not all(shape):
        raise badly_shaped(tensors)
    count, entries = shape
    size = (1 + isqrt(1 + 8 * entries)) // 2
    if size * (size - 1) // 2 != entries or (_SCALED in tensors and tensors[_SCALED].size != 1):
        raise badly_shaped(tensors)
    return Measured((0, count * size if count > 1 else 0), 0, cuts=ANYWHERE)


def _configured(settings: Settings) -> AdapterForm:
    """The format by PEFT's settings: which formula, how many terms, whether blocks are projected first."""
    terms = (
        int(settings.get("num_cayley_neumann_terms", _TERMS))
        if settings.get("use_cayley_neumann", True)
        else 0
    )
    limit = float(settings.get("eps", _LIMIT)) if settings.get("coft") else None
    return replace(FORM, value=partial(_value, terms=terms, limit=limit, of_peft=True))


def _value(
    tensors: Tensors,
    alpha: float | None,  # noqa: ARG001  # it has none
    *,
    terms: int = _TERMS,
    limit: float | None = None,
    of_peft: bool = False,
) -> PeftOFT:
    from lorapipe.weights.operators.peft_oft import PeftOFT, PeftSettings  # they need torch

    scaled = tensors[_SCALED]() if _SCALED in tensors else None
    return PeftOFT(tensors[_R](), PeftSettings(terms, limit, kernels_turn_back=not of_peft), scaled)


FORM = AdapterForm(
    name="PEFT OFT",
    roles={_R: (), _SCALED: ()},
    needed=frozenset({_R}),
    measure=_measure,
    value=_value,
    additive=False,
    configured=_configured,
)
