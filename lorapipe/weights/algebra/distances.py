"""How far two adapters are from each other, module by module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import kept, part
from lorapipe.weights.algebra.measure import measure, norm
from lorapipe.weights.borders import inside
from lorapipe.weights.distances import Distance
from lorapipe.weights.each import Each, serial
from lorapipe.weights.inference.checking import names
from lorapipe.weights.inference.joining import join
from lorapipe.weights.specs import AdapterSpec, ModuleId
from lorapipe.weights.structures.delta import Delta
from lorapipe.weights.tensors import torch_dtype

__all__ = ["distances", "other_operators"]

_CANCELLED = 1e-4
"""Share of what went into a difference of squares that has to be left of it."""

_ROUNDING = 1e-13
"""Share of the norms up to which a distance is that of the arithmetic."""


def distances(
    old: tuple[str, Adapter],
    new: tuple[str, Adapter],
    titles: Mapping[str, str] | None = None,
    *,
    compute: str = "float64",
    each: Each = serial,
) -> dict[ModuleId, Distance]:
    """The distance of each delta; one that only one adapter has is as far as it is long.

    Each adapter has a name for errors. A fused weight that they cut in different ways is looked
    at by the finest common rows. Operators (DoRA, OFT) are left out: see :func:`other_operators`.
    Raises what :func:`~.inference.joining.join` raises of families and shapes.
    """
    sides, dtype = (old, new), torch_dtype(compute)
    pieces = join([(name, 1.0, _deltas(side.spec)) for name, side in sides], titles).pieces

    def one(module: ModuleId) -> Distance:
        with inside(module):
            held: dict[int, Delta] = {p.term: part(sides[p.term][1], p).loaded() for p in pieces[module]}
            if len(held) == 2:
                return _quickly(held[0], held[1], dtype) or _distance(held[0], held[1], dtype)
            ((place, alone),) = held.items()
            size = norm(alone, dtype)
            return Distance(0.0, size, size) if place else Distance(size, 0.0, size)

    return dict(zip(pieces, each(one, pieces), strict=True))


def other_operators(old: Adapter, new: Adapter, each: Each = serial) -> tuple[ModuleId, ...]:
    """The operators of both that have other numbers in the one than in the other."""
    both = [m for m, known in old.spec.modules.items() if not known.additive and m in new.spec.modules]
    if not both:
        return ()
    found = measure(kept(old, both), differs_from=new, normed=False, each=each)
    called = names(replace(old.spec, modules={module: old.spec.modules[module] for module in both}))
    return tuple(module for module in both if found[called[module]].differs)


def _distance(old: Delta, new: Delta, dtype: torch.dtype) -> Distance:
    first, second = norm(old, dtype), norm(new, dtype)
    apart = norm(old.joined(new.scaled(-1.0)), dtype)
    return Distance(first, second, apart if apart > _ROUNDING * max(first, second) else 0.0)


def _quickly(old: Delta, new: Delta, dtype: torch.dtype) -> Distance | None:
    """The distance of two plain deltas by inner products, in a tenth of the time.

    ``<A, B> = sum((upA^T upB) * (downA downB^T))``. ``None`` where that would lose more than four
    digits: where terms or the two deltas nearly cancel.
    """
    if not (old.plain and new.plain):
        return None
    one, two = ((factors.up * c, factors.down) for factors, c in (d.side_by_side(dtype) for d in (old, new)))
    squares = [_inner(one, one), _inner(two, two)]
    most = [float(up.square().sum() * down.square().sum()) for up, down in (one, two)]
    apart = sum(squares) - 2.0 * _inner(one, two)
    safe = apart > _CANCELLED * sum(squares) and all(
        s > _CANCELLED * m for s, m in zip(squares, most, strict=True)
    )
    return Distance(*(sqrt(square) for square in (*squares, apart))) if safe else None


def _inner(one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> float:
    return float(((one[0].T @ two[0]) * (one[1] @ two[1].T)).sum())


def _deltas(spec: AdapterSpec) -> AdapterSpec:
    modules = {module: known for module, known in spec.modules.items() if known.additive}
    return replace(spec, modules=modules, extras={})
