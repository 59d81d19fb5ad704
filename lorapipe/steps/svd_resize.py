"""``svd-resize``: the best LoRA of given ranks, or of a given size, by the SVD of a small core."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import adapter_spec, at_work, factor_bytes
from lorapipe.weights.inference.ranks import Dynamic, Ranks
from lorapipe.weights.inference.steps import resize_spec
from lorapipe.weights.sizes import size_in_bytes
from lorapipe.weights.specs import AdapterSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter

__all__ = ["KIND"]


def _ranks(params: Params) -> Ranks:
    rule = list(cast("dict[str, float]", params.get("dynamic") or {}).items())
    size = cast("int | str | None", params.get("max-size"))
    return Ranks(
        cast("int", params["rank"]),
        conv=cast("int | None", params.get("conv-rank")),
        conv1x1=cast("int | None", params.get("conv1x1-rank")),
        dynamic=Dynamic(*rule[0]) if rule else None,
        max_size=None if size is None else size_in_bytes(size),
    )


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec:
    return resize_spec(adapter_spec(inputs.one("svd-resize"), "svd-resize"), _ranks(params))


def _work(inputs: Inputs[Adapter], params: Params, context: Context) -> Adapter:
    from lorapipe.weights.algebra.resize import resize

    adapter = inputs.one("svd-resize")
    ranks = _ranks(params)
    resized = resize(adapter, ranks, compute=context.compute, each=context.each, put_away=context.put_away)
    context.note("energy", {str(module): energy for module, energy in resized.energy.items()})
    if ranks.bounded:
        found = resized.adapter.spec.modules
        context.note("ranks", {str(module): known.rank for module, known in found.items()})
    return resized.adapter


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:
    spec = adapter_spec(inputs.one("svd-resize"), "svd-resize")
    out = adapter_spec(result, KIND.name)
    bounded = _ranks(params).bounded
    changed = {i: m for i, m in spec.modules.items() if bounded or out.modules[i] != m}
    # Two Gram matrices, of which the half is a copy (n r^2 each), the core's SVD, two products.
    flops = sum(
        m.elements * (m.rank + 2 * out.modules[i].rank) + 20 * min(m.rank, m.full_rank) ** 3
        for i, m in changed.items()
    )
    return Cost(written=factor_bytes(out), flops=flops, each=at_work(spec), kept=factor_bytes(out))


KIND = Kind(
    name="svd-resize", version=1, materialise=Materialise.STORED, infer=_infer, work=_work, cost=_cost
)
