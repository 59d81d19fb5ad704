"""Formats with a delta in them, which is itself of a format: LoRA, Tucker's, LoHa or LoKr."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from lorapipe.formats.forms import loha, lokr, lora, tucker
from lorapipe.formats.forms.form import AdapterForm, Measured, Misshapen, Specs, Tensors
from lorapipe.formats.forms.shapes import shown
from lorapipe.weights.specs import TensorSpec

if TYPE_CHECKING:
    from torch import Tensor

    from lorapipe.weights.structures.structure import Loaded

__all__ = ["ROLES", "delta", "measure_delta"]

_FORMS = (lora.FORM, tucker.FORM, loha.FORM, lokr.FORM)

ROLES: Mapping[str, tuple[str, ...]] = {
    role: others for form in reversed(_FORMS) for role, others in form.roles.items()
}
"""All roles that a delta may have; LoRA's come with their other spellings."""


def measure_delta(tensors: Specs) -> Measured:
    """The delta's shape, rank and divisor. Raises :class:`Misshapen` also where there is no one delta."""
    return _form(tensors).measure(tensors)


def delta(tensors: Tensors, alpha: float | None) -> tuple[Loaded, float]:
    """The delta, and its coefficient: alpha / divisor, 1 without an alpha or where it counts for nothing."""
    held = {role: read() for role, read in tensors.items()}
    specs = {role: TensorSpec("F32", tuple(tensor.shape)) for role, tensor in held.items()}
    form = _form(specs)
    divisor = form.measure(specs).divisor
    structure = cast("Loaded", form.value({role: _given(tensor) for role, tensor in held.items()}, alpha))
    return structure, 1.0 if alpha is None or divisor is None else alpha / divisor


def _form(tensors: Specs) -> AdapterForm:
    if not tensors:
        raise Misshapen("half-missing", "without a delta")
    fitting = (form for form in _FORMS if form.needed <= tensors.keys() <= form.roles.keys())
    form = next(fitting, None)
    if form is None:
        whole = any(tensors.keys() <= form.roles.keys() for form in _FORMS)
        raise Misshapen("half-missing" if whole else "mixed-formats", shown(tensors))
    return form


def _given(tensor: Tensor) -> Callable[[], Tensor]:
    return lambda: tensor
