"""``svd-resize``: the adapter of lower rank that is nearest in the Frobenius norm, or of what scores high."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.scoring import scores
from lorapipe.weights.borders import inside
from lorapipe.weights.each import Each, PutAway, in_memory, serial
from lorapipe.weights.inference.forms import passes
from lorapipe.weights.inference.ranks import Ranks, fitted, fitted_by_score
from lorapipe.weights.inference.scoring import best
from lorapipe.weights.inference.steps import resize_spec
from lorapipe.weights.linalg.svd import Svd, compact_svd
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy, chosen
from lorapipe.weights.structures.structure import LowRank
from lorapipe.weights.tensors import torch_dtype

__all__ = ["Base", "Resized", "resize"]

Base = Callable[[ModuleId], Tensor]
"""Gives the weight ``[O, I*k]`` that a module's delta is added to."""


@dataclass(frozen=True, slots=True, eq=False)
class Resized:
    """The adapter, and the share of each module's squared norm that is left in it.

    ``scores`` are those of the components kept, by module, where ranks follow from scores.
    """

    adapter: Adapter
    energy: Mapping[ModuleId, float]
    scores: Mapping[ModuleId, Sequence[float]]


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """A module cut to the components ``kept``, its factors formed unless it can only pass as it is.

    ``values`` are all of its singular values; ``None`` where none were needed. ``factors`` are those
    of the components ``formed``, of which ``kept`` are some. ``scores`` go by component, ``top`` is
    the highest, kept or not.
    """

    kept: Sequence[int]
    values: tuple[float, ...] | None = None
    formed: Sequence[int] = ()
    factors: LowRank | Lazy | None = None
    scores: Mapping[int, float] = field(default_factory=dict)
    top: float = -inf


def resize(
    adapter: Adapter,
    ranks: Ranks,
    *,
    base: Base | None = None,
    compute: str = "float64",
    each: Each = serial,
    put_away: PutAway = in_memory,
) -> Resized:
    """Truncate each module's SVD to its target rank; see :class:`~.ranks.Ranks`.

    A plain module already within its target passes as it is, bit for bit; where the data
    decide, one of which nothing is dropped; and so does a bias or a norm. The others,
    whatever their structure, become one term of coefficient 1 with balanced factors
    ``u sqrt(s)``, ``sqrt(s) vt`` in ``compute``, which ``put_away`` keeps. ``base`` is asked for
    the weights that scores are by. Raises what :func:`~.linalg.compact_svd` and
    :func:`~.inference.resize_spec` raise, the module named, and :class:`BuildError`
    ``nothing-left`` where no component scores enough, or all are 0.
    """
    bounds = resize_spec(adapter.spec, ranks)

    def one(module: ModuleId) -> _Cut:
        with inside(module):
            return _cut(module, adapter.delta(module), bounds.modules[module].rank, ranks, base, compute)

    cuts = {
        module: cut if cut.factors is None else replace(cut, factors=put_away(cut.factors))
        for module, cut in zip(bounds.modules, each(one, bounds.modules), strict=True)
    }
    cuts = _fit(adapter, ranks, cuts)
    specs = {module: replace(known, rank=len(cuts[module].kept)) for module, known in bounds.modules.items()}
    if ranks.score is not None and not any(known.rank for known in specs.values()):
        raise _nothing(ranks, max(cut.top for cut in cuts.values()))
    if all(cut.values is not None and not any(cut.values) for cut in cuts.values()):
        hint = "are two of the LoRAs that were added up the same file?"
        raise BuildError("nothing-left", "the LoRA does nothing: all of its deltas are 0", hint=hint)
    spec = replace(bounds, modules=specs, bounded=False)
    modules = {module: _result(adapter.delta(module), cut) for module, cut in cuts.items()}
    return Resized(
        Adapter(spec, modules, adapter.extras),
        {module: _energy(cut) for module, cut in cuts.items()},
        {module: [cut.scores[place] for place in cut.kept] for module, cut in cuts.items() if cut.scores},
    )


def _cut(module: ModuleId, delta: Delta, bound: int, ranks: Ranks, base: Base | None, compute: str) -> _Cut:
    if not bound or len(delta.shape) == 1 or (delta.plain and bound == delta.rank and not ranks.bounded):
        return _Cut(range(bound))
    svd = compact_svd(delta, torch_dtype(compute))
    values = tuple(svd.s.tolist())
    if ranks.score is not None:
        return _scored(module, delta, svd, bound, ranks, base)
    rank = bound if ranks.dynamic is None else min(bound, ranks.dynamic.rank(values))
    whole = delta.plain and rank == delta.rank and ranks.max_size is None
    kept = range(rank)
    return _Cut(kept, values, kept, None if whole else svd.factors(rank))


def _scored(module: ModuleId, delta: Delta, svd: Svd, bound: int, ranks: Ranks, base: Base | None) -> _Cut:
    """The components that score best, and may be any: by ``subspace`` not only the first."""
    score = ranks.score
    assert score is not None
    weight = base(module) if base is not None and score.needs_base else None
    found = scores(score, delta, svd, weight)
    kept = best(found, bound, score.threshold)
    values = tuple(svd.s.tolist())
    whole = delta.plain and len(kept) == delta.rank and ranks.max_size is None
    factors = None if whole else chosen(svd.factors(kept[-1] + 1 if kept else 0), kept)
    return _Cut(kept, values, kept, factors, {place: found[place] for place in kept}, max(found))


def _fit(adapter: Adapter, ranks: Ranks, cuts: Mapping[ModuleId, _Cut]) -> dict[ModuleId, _Cut]:
    """As many of the components as go into a file of ``ranks.max_size``."""
    if ranks.max_size is None:
        return dict(cuts)
    open_to = {m: cut for m, cut in cuts.items() if cut.kept and not passes(adapter.spec.modules[m])}
    kept: dict[ModuleId, Sequence[int]] = {}
    if ranks.score is not None:
        by_score = fitted_by_score(
            adapter.spec, ranks.max_size, {m: cut.scores for m, cut in open_to.items()}
        )
        kept.update(by_score)
    else:
        values = {m: (cut.values or ())[: len(cut.kept)] for m, cut in open_to.items()}
        counts = fitted(adapter.spec, ranks.max_size, values)
        kept.update((module, range(count)) for module, count in counts.items())
    return {module: replace(cut, kept=kept.get(module, cut.kept)) for module, cut in cuts.items()}


def _result(delta: Delta, cut: _Cut) -> Delta:
    if cut.factors is None or (delta.plain and len(cut.kept) == delta.rank):
        return delta
    places = [cut.formed.index(place) for place in cut.kept]
    return Delta(delta.shape, (Term(1.0, chosen(cut.factors, places)),))


def _nothing(ranks: Ranks, top: float) -> BuildError:
    least = None if ranks.score is None else ranks.score.threshold
    if least is not None and top < least:
        message, hint = (
            f"no component scores {least:g}: the highest score is {top:.6g}",
            "a lower 'threshold' keeps more",
        )
        return BuildError("nothing-left", message, hint=hint, option="score")
    message = f"no component that counts has room in {ranks.max_size} bytes"
    return BuildError("nothing-left", message, hint="a larger 'max-size' keeps more", option="max-size")


def _energy(cut: _Cut) -> float:
    """``sum_{kept} s_j^2 / sum_j s_j^2``; 1 of nothing, and of what is whole."""
    squares = [value * value for value in cut.values or ()]
    total = sum(squares)
    return sum(squares[place] for place in cut.kept) / total if total else 1.0
