"""``shuffle``: the same deltas in factors that no longer show their sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import adapter_spec, at_work, factor_bytes
from lorapipe.weights.inference.steps import shuffle_spec
from lorapipe.weights.specs import AdapterSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter

__all__ = ["KIND"]


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec:
    return shuffle_spec(adapter_spec(inputs.one("shuffle"), "shuffle"), str(params["mode"]))


def _work(inputs: Inputs[Adapter], params: Params, context: Context) -> Adapter:
    from lorapipe.weights.algebra.shuffle import shuffle

    return shuffle(
        inputs.one("shuffle"),
        seed=cast("int", params["seed"]),
        mode=str(params["mode"]),
        compute=context.compute,
        each=context.each,
        put_away=context.put_away,
    )


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:  # noqa: ARG001  # the kinds' one signature
    spec = adapter_spec(inputs.one("shuffle"), "shuffle")
    out = adapter_spec(result, KIND.name)
    # Two Gram matrices, of which the half is a copy (n r^2 each), the core's SVD, two products.
    items = tuple(3 * m.elements * m.rank + 20 * min(m.rank, m.full_rank) ** 3 for m in spec.modules.values())
    size = factor_bytes(out)
    return Cost(written=size, flops=sum(items), each=at_work(spec), kept=size, items=items)


def _warn(inputs: Inputs[Spec], params: Params, result: Spec) -> tuple[str, ...]:  # noqa: ARG001  # the kinds' one signature
    if params["mode"] != "permute":
        return ()
    return ("'mode: permute' hides nothing: the sources' factors are in the file, in another order",)


KIND = Kind(
    name="shuffle",
    version=1,
    materialise=Materialise.STORED,
    infer=_infer,
    work=_work,
    cost=_cost,
    warn=_warn,
)
