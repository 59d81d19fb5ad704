"""The figures of an adapter: what is in each of its modules, and how much of it matters."""

from __future__ import annotations

import torch

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.each import Each, serial
from lorapipe.weights.figures import Figures
from lorapipe.weights.linalg.svd import singular_values
from lorapipe.weights.operators.dora import DoRA
from lorapipe.weights.operators.operator import Operated, Turned
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.tensors import torch_dtype

__all__ = ["Figures", "figures", "portrait"]


def portrait(adapter: Adapter, *, compute: str = "float64", each: Each = serial) -> dict[ModuleId, Figures]:
    """The figures of each module that has any, in the adapter's order.

    A module is in memory only while ``each`` is at it. Of a DoRA they are those of the delta
    inside of it, before the weight's lengths are set; other operators (OFT, IA3, whole weights)
    are a function of the weight alone and have none: the spec's ``form`` names them.
    """
    dtype = torch_dtype(compute)

    def one(module: ModuleId) -> Figures | None:
        value = adapter.modules[module]
        if isinstance(value, Delta):
            return figures(value, dtype)
        inner = _inner(value)
        return None if inner is None else figures(inner, dtype, "DoRA")

    found = zip(adapter.spec.modules, each(one, adapter.spec.modules), strict=True)
    return {module: figure for module, figure in found if figure is not None}


def figures(delta: Delta, dtype: torch.dtype = torch.float64, within: str | None = None) -> Figures:
    """The figures of one delta, which is never formed where its factors are smaller.

    *Numerics*: see :func:`~lorapipe.weights.linalg.svd.compact_svd`. Raises its ``no-svd``.
    """
    try:
        values = singular_values(delta, dtype)
    except BuildError as error:
        if error.code != "not-finite":
            raise
        return Figures((), finite=False, within=within)
    return Figures(tuple(values[values > 0.0].tolist()), within=within)


def _inner(value: Operated) -> Delta | None:
    """The delta in a DoRA."""
    operator = value.read()
    if isinstance(operator, Turned):
        operator = operator.operator
    if not isinstance(operator, DoRA):
        return None
    return Delta(operator.delta.shape, (Term(operator.coefficient, operator.delta),))
