"""``shuffle``: the same deltas in factors that do not show what they were made of."""

from __future__ import annotations

import torch

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.borders import inside
from lorapipe.weights.each import Each, PutAway, in_memory, serial
from lorapipe.weights.inference.forms import passes
from lorapipe.weights.inference.steps import shuffle_spec
from lorapipe.weights.linalg.randomness import permutation, rotation
from lorapipe.weights.linalg.svd import compact_svd
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import LowRank
from lorapipe.weights.tensors import torch_dtype

__all__ = ["permuted", "rotated", "shuffle"]


def shuffle(
    adapter: Adapter,
    seed: int = 0,
    mode: str = "rotate",
    *,
    compute: str = "float64",
    each: Each = serial,
    put_away: PutAway = in_memory,
) -> Adapter:
    """Every delta unchanged, its factors rotated (``rotate``) or reordered (``permute``).

    The result is hidden: no extras, no metadata of the sources. Seeded by ``seed`` and the
    module's canonical name, whatever a file calls it. ``put_away`` keeps the factors. A
    bias or a norm has none and stays, its terms added up. Raises what
    :func:`~.linalg.compact_svd` and :func:`~.inference.shuffle_spec` raise, the module named.
    """
    change = {"rotate": rotated, "permute": permuted}[mode]
    spec = shuffle_spec(adapter.spec, mode)
    dtype = torch_dtype(compute)

    def one(module: ModuleId) -> Delta:
        with inside(module):
            delta = adapter.delta(module)
            if spec.modules[module].empty:
                return delta
            return _summed(delta) if passes(spec.modules[module]) else change(delta, seed, str(module), dtype)

    made = zip(spec.modules, each(one, spec.modules), strict=True)
    return Adapter(spec, {module: _put(delta, put_away) for module, delta in made})


def _put(delta: Delta, put_away: PutAway) -> Delta:
    """The delta with its factors put away, if it is factors."""
    if not delta.plain:
        return delta
    return Delta(delta.shape, tuple(Term(t.coefficient, put_away(t.structure.load())) for t in delta.terms))


def _summed(delta: Delta) -> Delta:
    """One term, which does not show of how many it is the sum."""
    if len(delta.terms) == 1:
        return delta
    return Delta(delta.shape, (Term(1.0, delta.total(torch.float64)),))


def rotated(delta: Delta, seed: int, name: str, dtype: torch.dtype) -> Delta:
    """``(u sqrt(s) Q)(Q^T sqrt(s) vt)`` for the delta's SVD and a rotation ``Q: [n, n]``.

    A function of the delta alone: who knows the seed can undo ``Q``, and finds the
    delta's own SVD, not a source's factors. ``n = min(R, O, I*k)``; components that are
    numerically zero are zero before the rotation.

    *Numerics*: also better conditioned. Of a near-cancelling ``A - B`` saved in fp16, a
    rotation of the stacked factors themselves loses 5.9e-3, this one 2.8e-4.
    """
    factors = compact_svd(delta, dtype).factors()
    q = rotation(seed, name, factors.rank).to(factors.up)
    return Delta(delta.shape, (Term(1.0, LowRank(factors.up @ q, q.T @ factors.down)),))


def permuted(delta: Delta, seed: int, name: str, dtype: torch.dtype) -> Delta:
    """The stacked factors with the rank axis in a random order. It hides nothing.

    Where all ``|c|`` are equal the factors' own values are kept (see
    :meth:`~.delta.Delta.folded`).
    """
    folded = delta.folded(dtype)
    order = permutation(seed, name, delta.rank).to(folded.factors.up.device)
    factors = LowRank(folded.factors.up[:, order], folded.factors.down[order])
    return Delta(delta.shape, (Term(folded.coefficient, factors),))
