"""Forms that are no deltas, at work: what they make of a weight."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.formats.forms.form import AdapterForm
from lorapipe.weights.inference.cuts import can_cut
from lorapipe.weights.inference.fitting import fits
from lorapipe.weights.operators.operator import Operator
from lorapipe.weights.specs import Form, ModuleSpec, Spelling

from .kit import Array, measured

__all__ = ["close", "made", "operator", "weight"]


def weight(*shape: int, seed: int = 9) -> Array:
    found: Array = np.random.default_rng(seed).standard_normal(shape)
    return found


def operator(form: AdapterForm, tensors: Mapping[str, Tensor], alpha: float | None = None) -> Operator:
    """The operator, which writes the very tensors that it was made of, or says that they are not all."""
    assert not form.additive
    measured(form, tensors)
    made_of = form.value({role: (lambda t=t: t) for role, t in tensors.items()}, alpha)  # type: ignore[misc]
    try:
        written = made_of.written()  # type: ignore[union-attr]
    except BuildError as error:
        if error.code != "settings-not-kept":
            raise
        return made_of  # type: ignore[return-value]
    for role, tensor in tensors.items():
        assert torch.equal(written[role].reshape(tensor.shape).to(tensor.dtype), tensor), role
    return made_of  # type: ignore[return-value]


def made(
    form: AdapterForm,
    tensors: Mapping[str, Tensor],
    of: Array,
    alpha: float | None = None,
    strength: float = 1.0,
) -> Array:
    """What the form makes of a weight that fits what was measured, and of its parts at each cut."""
    known = measured(form, tensors)
    described = Form(form.name, additive=False, cuts=known.cuts, grows=known.grows)
    assert fits(ModuleSpec(known.shape, known.rank, Spelling("x"), described), of.shape)
    value = operator(form, tensors, alpha)
    found: Array = value.apply(torch.from_numpy(of.copy()), strength).numpy()
    _parts_agree(value, known.cuts, of, found, strength)
    return found


def _parts_agree(
    value: Operator, cuts: tuple[tuple[int, int], ...], of: Array, whole: Array, strength: float
) -> None:
    for row in range(1, len(of)) if of.ndim else ():
        if can_cut(cuts, row):
            for start, stop in ((0, row), (row, len(of))):
                part = value.rows(start, stop).apply(torch.from_numpy(of[start:stop].copy()), strength)
                close(part.numpy(), whole[start:stop])


def close(found: Array, expected: Array, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
