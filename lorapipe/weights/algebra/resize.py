"""``svd-resize``: the adapter of lower rank that is nearest in the Frobenius norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.borders import inside
from lorapipe.weights.each import Each, PutAway, in_memory, serial
from lorapipe.weights.inference.ranks import Ranks, fitted
from lorapipe.weights.inference.steps import resize_spec
from lorapipe.weights.linalg.svd import compact_svd
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy, leading
from lorapipe.weights.structures.structure import LowRank
from lorapipe.weights.tensors import torch_dtype

__all__ = ["Resized", "resize"]


@dataclass(frozen=True, slots=True, eq=False)
class Resized:
    """The adapter, and the share of each module's squared norm that is left in it."""

    adapter: Adapter
    energy: Mapping[ModuleId, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """A module cut to ``rank``, its factors formed unless it can only pass as it is.

    ``values`` are all of its singular values; ``None`` where none were needed.
    """

    rank: int
    values: tuple[float, ...] | None = None
    factors: LowRank | Lazy | None = None


def resize(
    adapter: Adapter,
    ranks: Ranks,
    *,
    compute: str = "float64",
    each: Each = serial,
    put_away: PutAway = in_memory,
) -> Resized:
    """Truncate each module's SVD to its target rank; see :class:`~.ranks.Ranks`.

    A plain module already within its target passes as it is, bit for bit; where the data
    decide, one of which nothing is dropped; and so does a bias or a norm. The others,
    whatever their structure, become one term of coefficient 1 with balanced factors
    ``u sqrt(s)``, ``sqrt(s) vt`` in ``compute``, which ``put_away`` keeps. Raises what
    :func:`~.linalg.compact_svd` and :func:`~.inference.resize_spec` raise, the module named.
    """
    bounds = resize_spec(adapter.spec, ranks)

    def one(module: ModuleId) -> _Cut:
        with inside(module):
            return _cut(adapter.delta(module), bounds.modules[module].rank, ranks, compute)

    cuts = {
        module: cut if cut.factors is None else replace(cut, factors=put_away(cut.factors))
        for module, cut in zip(bounds.modules, each(one, bounds.modules), strict=True)
    }
    if ranks.max_size is not None:
        room = {module: (cut.values or ())[: cut.rank] for module, cut in cuts.items() if cut.rank}
        kept = fitted(adapter.spec, ranks.max_size, room)
        cuts = {module: replace(cut, rank=kept.get(module, 0)) for module, cut in cuts.items()}
    specs = {module: replace(known, rank=cuts[module].rank) for module, known in bounds.modules.items()}
    spec = replace(bounds, modules=specs, bounded=False)
    energy = {module: _energy(cut) for module, cut in cuts.items()}
    modules = {module: _result(adapter.delta(module), cut) for module, cut in cuts.items()}
    return Resized(Adapter(spec, modules, adapter.extras), energy)


def _cut(delta: Delta, bound: int, ranks: Ranks, compute: str) -> _Cut:
    if not bound or len(delta.shape) == 1 or (delta.plain and bound == delta.rank and not ranks.bounded):
        return _Cut(bound)
    svd = compact_svd(delta, torch_dtype(compute))
    values = tuple(svd.s.tolist())
    rank = bound if ranks.dynamic is None else min(bound, ranks.dynamic.rank(values))
    whole = delta.plain and rank == delta.rank and ranks.max_size is None
    return _Cut(rank, values, None if whole else svd.factors(rank))


def _result(delta: Delta, cut: _Cut) -> Delta:
    if cut.factors is None or (delta.plain and cut.rank == delta.rank):
        return delta
    return Delta(delta.shape, (Term(1.0, leading(cut.factors, cut.rank)),))


def _energy(cut: _Cut) -> float:
    """``sum_{j < rank} s_j^2 / sum_j s_j^2``; 1 of nothing, and of what is whole."""
    squares = [value * value for value in cut.values or ()]
    total = sum(squares)
    return sum(squares[: cut.rank]) / total if total else 1.0
