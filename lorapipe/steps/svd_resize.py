"""``svd-resize``: the best LoRA of a given rank, by the SVD of a small core."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import adapter_spec, factor_bytes
from lorapipe.weights.inference import Ranks, resize_spec
from lorapipe.weights.specs import AdapterSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.adapter import Adapter

__all__ = ["KIND"]


def _ranks(params: Params) -> Ranks:
    return Ranks(
        cast("int", params["rank"]),
        conv=cast("int | None", params.get("conv-rank")),
        conv1x1=cast("int | None", params.get("conv1x1-rank")),
    )


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec:
    return resize_spec(adapter_spec(inputs.one("svd-resize"), "svd-resize"), _ranks(params))


def _work(inputs: Inputs[Adapter], params: Params, context: Context) -> Adapter:
    from lorapipe.weights.resize import resize

    adapter = inputs.one("svd-resize")
    resized = resize(adapter, _ranks(params), compute=context.compute, each=context.each)
    context.note("energy", {str(module): energy for module, energy in resized.energy.items()})
    return resized.adapter


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:  # noqa: ARG001  # the kinds' one signature
    spec = adapter_spec(inputs.one("svd-resize"), "svd-resize")
    out = adapter_spec(result, KIND.name)
    changed = {i: m for i, m in spec.modules.items() if out.modules[i].rank != m.rank}
    # Two Gram matrices, of which the half is a copy (n r^2 each), the core's SVD, two products.
    flops = sum(
        m.elements * (m.rank + 2 * out.modules[i].rank) + 20 * min(m.rank, m.full_rank) ** 3
        for i, m in changed.items()
    )
    return Cost(written=factor_bytes(out), flops=flops, peak=factor_bytes(spec) + factor_bytes(out))


KIND = Kind(
    name="svd-resize", version=2, materialise=Materialise.STORED, infer=_infer, work=_work, cost=_cost
)
