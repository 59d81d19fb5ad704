"""The tensors of a file's module that has a format of its own: cut, and put together again.

Where parts of one module stand one below the other, tensors in which the weight's rows are
an axis are cut and joined along it; the others serve all rows and have to be the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.filing.refiled import same_bits
from lorapipe.weights.inference.filed import ALPHA, FileModule, Part, row_axis
from lorapipe.weights.inference.forms import FULL
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.specs import Form
from lorapipe.weights.structures.structure import Written

__all__ = ["rewritten"]


def rewritten(module: FileModule, adapter: Adapter) -> Written:
    """The tensors of ``module.form`` by role, in its shapes, and its alpha.

    A full difference may be written of any delta: the sum of its terms in float64.

    Raises :class:`BuildError` ``not-one-module`` where parts do not share what a module of the
    format has once, and ``strength-not-kept`` for an operator at another strength than 1.
    """
    form = module.form
    assert form is not None
    parts = [None if p.module is None else _part(p, form, module.transposed, adapter) for p in module.parts]
    found = [part for part in parts if part is not None]
    if len({part.alpha for part in found}) > 1:
        raise _not_one(form, ALPHA)
    tensors = {
        role: _below(
            form, role, [None if part is None else part.tensors[role] for part in parts], module.parts
        )
        for role, _ in form.tensors
        if role != ALPHA
    }
    return Written(tensors, found[0].alpha)


def _part(part: Part, form: Form, transposed: bool, adapter: Adapter) -> Written:  # as the module says
    """The tensors of some rows of one of the adapter's modules, as its format has them."""
    assert part.module is not None
    value = adapter.modules[part.module]
    if part.height != value.shape[0]:
        value = value.rows(part.start, part.stop)
    if isinstance(value, Operated):
        tensors = dict(value.read().written(value.strength))
        alpha = tensors.pop(ALPHA, None)
        return Written(tensors, None if alpha is None else float(alpha))
    delta = value.transposed() if transposed else value
    if form.name != FULL:
        return delta.written()
    own = adapter.spec.modules[part.module].form
    whole = delta.written().tensors[".diff"] if own and own.name == FULL else delta.dense(torch.float64)
    ((role, _),) = form.tensors
    return Written({role: whole})


def _below(form: Form, role: str, tensors: Sequence[Tensor | None], parts: Sequence[Part]) -> Tensor:
    """One tensor of the parts' tensors of a role, zeros where a part is none."""
    spec, axis = dict(form.tensors)[role], row_axis(form, role)
    found = [tensor for tensor in tensors if tensor is not None]
    if len(tensors) == 1 or axis is None:
        if any(not same_bits(found[0], other) for other in found[1:]):
            raise _not_one(form, role)
        return found[0].reshape(spec.shape)
    one = len({tensor.dtype for tensor in found}) == 1
    dtype = found[0].dtype if one else torch.float64
    rows = []
    for tensor, part in zip(tensors, parts, strict=True):
        shape = (*spec.shape[:axis], part.height, *spec.shape[axis + 1 :])
        empty = torch.zeros(shape, dtype=dtype, device=found[0].device)
        rows.append(empty if tensor is None else tensor.reshape(shape).to(dtype))
    return torch.cat(rows, dim=axis)


def _not_one(form: Form, role: str) -> BuildError:
    return BuildError(
        "not-one-module",
        f"the parts of the weight are {form.name} modules of their own: their '{role}' differs",
        hint="svd-resize makes them a plain LoRA, which can be joined",
    )
