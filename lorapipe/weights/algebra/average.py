"""``ema``: the weighted average of a training run's checkpoints, factor by factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import AdapterTerm, concat
from lorapipe.weights.borders import inside
from lorapipe.weights.inference.averaging import average_spec, averaged_as_factors
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.structure import LowRank, Structure
from lorapipe.weights.tensors import torch_dtype

__all__ = ["average"]


def average(
    terms: Sequence[AdapterTerm], titles: Mapping[str, str] | None = None, *, compute: str = "float64"
) -> Adapter:
    """``(sum_i w_i up_i)(sum_i w_i down_i)`` for each module, the coefficients being the same in all.

    The weights are meant to sum to 1. What has no factors (a bias, a full difference) is the
    weighted sum of its numbers. Nothing is computed before the factors are used, and then in
    ``compute``.

    Averaging the factors is what a trainer's own EMA does, since these are its parameters. It
    differs from the average of the products by the covariance of the factors along the run,
    ``sum_i w_i (up_i - up)(down_i - down)``, which is small as far as they move little between
    checkpoints; :func:`~.combine.concat` has the average of the products.

    Raises :class:`BuildError` ``strengths-differ`` where a module has another alpha in one of
    them, and what :func:`~.inference.averaging.average_spec` and :func:`~.combine.concat` raise.
    """
    spec = average_spec([(name, adapter.spec) for name, _, adapter in terms], titles)
    summed = concat(terms, titles)
    dtype = torch_dtype(compute)

    def one(module: ModuleId) -> Delta:
        with inside(module):
            return _averaged(terms, module, dtype)

    modules = {
        module: one(module) if averaged_as_factors(known) else summed.modules[module]
        for module, known in spec.modules.items()
    }
    return Adapter(spec, modules, summed.extras)


def _averaged(terms: Sequence[AdapterTerm], module: ModuleId, dtype: torch.dtype) -> Delta:
    deltas = [adapter.delta(module) for _, _, adapter in terms]
    first = deltas[0]
    for (name, _, _), delta in zip(terms, deltas, strict=True):
        if _strengths(delta) != _strengths(first):
            raise BuildError(
                "strengths-differ",
                f"'{name}' has another alpha or another strength here than '{terms[0][0]}'",
                hint="'average: deltas' averages what they add, whatever their strengths",
            )
    weights = [weight for _, weight, _ in terms]
    sides = zip(*(delta.terms for delta in deltas), strict=True)
    found = tuple(
        Term(same[0].coefficient, _mean(weights, [term.structure for term in same], dtype)) for same in sides
    )
    return Delta(first.shape, found)


def _strengths(delta: Delta) -> list[tuple[float, int]]:
    return [(term.coefficient, term.structure.rank) for term in delta.terms]


def _mean(weights: Sequence[float], structures: Sequence[Structure], dtype: torch.dtype) -> Lazy:
    first = structures[0]
    return Lazy(first.shape, first.rank, partial(_read_mean, tuple(weights), tuple(structures), dtype))


def _read_mean(weights: Sequence[float], structures: Sequence[Structure], dtype: torch.dtype) -> LowRank:
    """The weighted sums of both factors; one checkpoint's are in memory at a time."""
    up: torch.Tensor | None = None
    down: torch.Tensor | None = None
    for weight, structure in zip(weights, structures, strict=True):
        factors = structure.load().factors(dtype)
        up = factors.up * weight if up is None else up.add_(factors.up, alpha=weight)
        down = factors.down * weight if down is None else down.add_(factors.down, alpha=weight)
    assert up is not None
    assert down is not None
    return LowRank(up, down)
