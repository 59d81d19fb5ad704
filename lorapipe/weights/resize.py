"""``svd-resize``: the adapter of lower rank that is nearest in the Frobenius norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorapipe.weights.adapter import Adapter
from lorapipe.weights.borders import inside
from lorapipe.weights.delta import Delta, Term
from lorapipe.weights.each import Each, serial
from lorapipe.weights.inference import Ranks, resize_spec
from lorapipe.weights.linalg import compact_svd
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.tensors import torch_dtype

__all__ = ["Resized", "resize"]


@dataclass(frozen=True, slots=True, eq=False)
class Resized:
    """The adapter, and the share of each module's squared norm that is left in it."""

    adapter: Adapter
    energy: Mapping[ModuleId, float]


def resize(adapter: Adapter, ranks: Ranks, *, compute: str = "float64", each: Each = serial) -> Resized:
    """Truncate each module's SVD to its target rank; see :class:`~.inference.Ranks`.

    A module already within its target passes as it is, bit for bit. The others become
    one term of coefficient 1 with balanced factors ``u sqrt(s)``, ``sqrt(s) vt`` in
    ``compute``. Raises what :func:`~.linalg.compact_svd` raises, the module named.
    """
    spec = resize_spec(adapter.spec, ranks)

    def one(module: ModuleId) -> tuple[Delta, float]:
        delta, rank = adapter.modules[module], spec.modules[module].rank
        if rank == delta.rank:
            return delta, 1.0
        with inside(module):
            svd = compact_svd(delta, torch_dtype(compute))
        return Delta(delta.shape, (Term(1.0, svd.factors(rank)),)), svd.energy(rank)

    results = dict(zip(spec.modules, each(one, spec.modules), strict=True))
    modules = {module: delta for module, (delta, _) in results.items()}
    energy = {module: kept for module, (_, kept) in results.items()}
    return Resized(Adapter(spec, modules, adapter.extras), energy)
