"""Forms without a file: tensors by role, as a reader hands them over."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from lorapipe.formats.forms.form import AdapterForm, Measured, Misshapen
from lorapipe.weights.specs import TensorSpec

__all__ = ["DTYPES", "Array", "array", "measured", "numbers", "refused", "value"]

NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"}
DTYPES = (torch.float16, torch.bfloat16, torch.float32)

Array = npt.NDArray[np.float64]


def numbers(seed: int, dtype: torch.dtype = torch.float32, /, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    """Random tensors by role; ``__`` in a name is a dot, and each gets one in front."""
    rng = np.random.default_rng(seed)
    made = {name: torch.from_numpy(rng.standard_normal(shape)).to(dtype) for name, shape in shapes.items()}
    return {f".{name.replace('__', '.')}": tensor for name, tensor in made.items()}


def array(tensor: Tensor) -> Array:
    found: Array = tensor.to(torch.float64).numpy()
    return found


def specs(tensors: Mapping[str, Tensor]) -> dict[str, TensorSpec]:
    return {role: TensorSpec(NAMES[t.dtype], tuple(t.shape)) for role, t in tensors.items()}


def measured(form: AdapterForm, tensors: Mapping[str, Tensor]) -> Measured:
    """What the headers say; the tensors' roles must be the form's."""
    assert form.needed <= tensors.keys() <= form.roles.keys()
    return form.measure(specs(tensors))


def value(form: AdapterForm, tensors: Mapping[str, Tensor], alpha: float | None = None) -> Array:
    """``alpha / divisor`` times the structure's matrix; it is of the shape and rank that were measured."""
    known = measured(form, tensors)
    structure = form.value({role: (lambda t=t: t) for role, t in tensors.items()}, alpha)  # type: ignore[misc]
    out, columns = known.shape[0], int(np.prod(known.shape[1:]))
    assert structure.shape == (out, columns)
    assert structure.rank == known.rank
    scale = 1.0 if alpha is None or known.divisor is None else alpha / known.divisor
    return scale * array(structure.dense(torch.float64)).reshape(known.shape)


def refused(form: AdapterForm, tensors: Mapping[str, Tensor]) -> tuple[str, str]:
    """Code and text of what is wrong."""
    with pytest.raises(Misshapen) as caught:
        form.measure(specs(tensors))
    return caught.value.code, str(caught.value)
