"""How adapters stand to each other where they meet: cosines, shared directions, what cancels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import part
from lorapipe.weights.borders import inside
from lorapipe.weights.each import Each, serial
from lorapipe.weights.inference.joining import Piece, SpecTerm, join
from lorapipe.weights.linalg.svd import compact_svd
from lorapipe.weights.overlaps import Overlap
from lorapipe.weights.specs import AdapterSpec, ModuleId
from lorapipe.weights.structures.delta import Delta
from lorapipe.weights.tensors import torch_dtype

__all__ = ["Pair", "overlap", "overlaps"]

Pair = tuple[int, int]
"""Two adapters by their places, the lower one first."""


def overlaps(
    adapters: Sequence[tuple[str, Adapter]],
    titles: Mapping[str, str] | None = None,
    *,
    compute: str = "float64",
    each: Each = serial,
) -> dict[Pair, dict[ModuleId, Overlap]]:
    """Each pair's overlap on each module that both have; a pair that never meets has none.

    The adapters, each with a name for errors, are of one family. A fused weight that they cut in
    different ways is looked at by the finest common rows. Operators (DoRA, OFT) are left out:
    what they add depends on the weight. So is a module that is not finite.

    Every delta is decomposed once, whatever the number of pairs, and a module is in memory only while
    ``each`` is at it. Raises what :func:`~.inference.joining.join` raises of families and shapes.
    """
    pieces = _pieces([(name, adapter.spec) for name, adapter in adapters], titles)
    met = {module: found for module, found in pieces.items() if len(found) > 1}
    dtype = torch_dtype(compute)

    def one(module: ModuleId) -> dict[Pair, Overlap]:
        with inside(module):
            held = {piece.term: _parts(part(adapters[piece.term][1], piece), dtype) for piece in met[module]}
        pairs = combinations(sorted(place for place, parts in held.items() if parts is not None), 2)
        return {(i, j): _overlap(held[i], held[j]) for i, j in pairs}

    found: dict[Pair, dict[ModuleId, Overlap]] = {}
    for module, told in zip(met, each(one, met), strict=True):
        for pair, value in told.items():
            found.setdefault(pair, {})[module] = value
    return dict(sorted(found.items()))


def overlap(a: Delta, b: Delta, dtype: torch.dtype = torch.float64) -> Overlap:
    """The overlap of two deltas of one shape, from the SVDs of both; neither is ever formed.

    *Numerics*: see :func:`~lorapipe.weights.linalg.svd.compact_svd`; directions whose singular
    values are rounding do not count. Raises what that raises.
    """
    return _overlap(_Parts.of(a, dtype), _Parts.of(b, dtype))


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """A delta as ``u diag(s) vt``: ``u: [O, n]``, ``s: [n]``, ``vt: [n, I*k]``, with all ``s`` above 0."""

    u: Tensor
    s: Tensor
    vt: Tensor

    @classmethod
    def of(cls, delta: Delta, dtype: torch.dtype) -> _Parts:
        svd = compact_svd(delta, dtype)
        rank = int((svd.s > 0.0).sum())
        u, vt = svd.vectors(rank)
        return cls(u, svd.s[:rank], vt)


def _parts(delta: Delta, dtype: torch.dtype) -> _Parts | None:
    try:
        return _Parts.of(delta, dtype)
    except BuildError as error:
        if error.code != "not-finite":
            raise
        return None


def _overlap(one: _Parts | None, two: _Parts | None) -> Overlap:
    assert one is not None
    assert two is not None
    left, right = one.u.T @ two.u, one.vt @ two.vt.T  # both [rank A, rank B]
    shares = left * right * one.s[:, None] * two.s
    a, b = (float(parts.s.square().sum()) for parts in (one, two))
    (out, rank_a), (rank_b, columns) = one.u.shape, two.vt.shape
    return Overlap(
        inner=float(shares.sum()),
        a=a,
        b=b,
        along=float(shares.clamp(min=0.0).sum()),
        against=-float(shares.clamp(max=0.0).sum()),
        outputs=float(left.square().sum()),
        inputs=float(right.square().sum()),
        angles=min(rank_a, rank_b),
        chance_outputs=rank_a * rank_b / out,
        chance_inputs=rank_a * rank_b / columns,
        chance_inner=a * b / (out * columns),
    )


def _pieces(
    specs: Sequence[tuple[str, AdapterSpec]], titles: Mapping[str, str] | None
) -> Mapping[ModuleId, tuple[Piece, ...]]:
    """Which rows of which deltas meet, by the modules of a sum of all."""
    terms: list[SpecTerm] = []
    for name, spec in specs:
        deltas = {module: known for module, known in spec.modules.items() if known.additive and known.rank}
        terms.append((name, 1.0, replace(spec, modules=deltas, extras={})))
    return join(terms, titles).pieces
