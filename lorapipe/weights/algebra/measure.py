"""Measures of deltas that are never formed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

import torch
from torch import Tensor

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.borders import inside
from lorapipe.weights.each import Each, serial
from lorapipe.weights.inference.checking import Figure, names
from lorapipe.weights.linalg.svd import core
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.structures.delta import Delta
from lorapipe.weights.structures.parts import take_apart
from lorapipe.weights.tensors import all_finite, torch_dtype

__all__ = ["SAME", "measure", "norm", "relative_error"]

SAME = 1e-6
"""Share of its norm up to which a delta is taken for another: twenty roundings to float32."""


def norm(delta: Delta, dtype: torch.dtype = torch.float64) -> float:
    """The Frobenius norm of ``sum c * up @ down``, by way of its small core.

    *Numerics*: the error is a small multiple of ``eps * norm(up) * norm(down)``. The
    shorter ``sqrt(sum(up^T up * down down^T))`` squares the numbers first, and is wrong
    from the eighth digit on where terms nearly cancel.
    """
    return float(torch.linalg.matrix_norm(core(delta, dtype)))


def relative_error(result: Delta, terms: Sequence[tuple[float, Delta]]) -> float:
    """``norm(result - sum w_i delta_i) / sum |w_i| norm(delta_i)``.

    Relative to what went in, not to what came out, which may be next to nothing in a
    difference of two LoRAs. 0 of nothing.
    """
    difference = result.joined(*(delta.scaled(-weight) for weight, delta in terms))
    scale = sum(abs(weight) * norm(delta) for weight, delta in terms)
    return norm(difference) / scale if scale else norm(difference)


def measure(
    adapter: Adapter,
    *,
    of: Adapter | None = None,
    differs_from: Adapter | None = None,
    normed: bool = True,
    compute: str = "float64",
    each: Each = serial,
) -> dict[str, Figure]:
    """What ``check`` asks of each module, by the name that a file has for it.

    ``of`` has the same modules, all of them deltas, and ``x - y`` is measured for each of them;
    ``differs_from`` may have others. ``normed`` asks for the norms of deltas. Every module is
    looked at for NaN and Inf, in its factors and in its norm.
    """
    dtype = torch_dtype(compute)

    def one(module: ModuleId) -> Figure:
        with inside(module):
            value = adapter.modules[module]
            left = whole = float("nan")
            if not all(all_finite(tensor) for tensor in _tensors(value)):
                return Figure(finite=False, differs=True)
            size = norm(value, dtype) if isinstance(value, Delta) and (normed or differs_from) else 0.0
            if of is not None:
                other = of.delta(module)
                left, whole = (
                    norm(adapter.delta(module).joined(other.scaled(-1.0)), dtype),
                    norm(other, dtype),
                )
            differs = differs_from is not None and _differs(value, size, differs_from, module, dtype)
            return Figure(size, left, whole, isfinite(size), differs)

    called = names(adapter.spec)
    modules = adapter.spec.modules
    return {called[module]: found for module, found in zip(modules, each(one, modules), strict=True)}


def _differs(
    value: Delta | Operated, size: float, other: Adapter, module: ModuleId, dtype: torch.dtype
) -> bool:
    theirs = other.modules.get(module)
    if isinstance(value, Delta) and isinstance(theirs, Delta):
        least = SAME * max(size, norm(theirs, dtype))
        return norm(value.joined(theirs.scaled(-1.0)), dtype) > least
    if isinstance(value, Operated) and isinstance(theirs, Operated):
        ours, others = value.read().written(), theirs.read().written()
        same = ours.keys() == others.keys() and all(torch.equal(ours[name], others[name]) for name in ours)
        return not same or value.strength != theirs.strength
    return True


def _tensors(value: Delta | Operated) -> Iterator[Tensor]:
    """All real numbers that a module has."""
    if isinstance(value, Operated):
        yield torch.tensor(value.strength, dtype=torch.float64)
        yield from (held for held in value.read().written().values() if held.is_floating_point())
        return
    for term in value.terms:
        yield torch.tensor(term.coefficient, dtype=torch.float64)
        yield from take_apart(term.structure.load())[1].values()
