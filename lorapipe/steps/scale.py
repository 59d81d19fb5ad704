"""``scale``: multiply a LoRA's deltas by a strength, all of them or by component."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import adapter_spec
from lorapipe.weights.inference.steps import scale_spec
from lorapipe.weights.specs import AdapterSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter

__all__ = ["KIND"]


def _factors(params: Params) -> tuple[float, dict[str, float]]:
    components = cast("dict[str, float]", params.get("components") or {})
    return float(cast("float", params.get("by", 1.0))), components


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec:
    by, components = _factors(params)
    return scale_spec(adapter_spec(inputs.one("scale"), "scale"), by, components)


def _work(inputs: Inputs[Adapter], params: Params, context: Context) -> Adapter:  # noqa: ARG001  # the kinds' one signature
    from lorapipe.weights.algebra.combine import scale

    by, components = _factors(params)
    return scale(inputs.one("scale"), by, components)


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:  # noqa: ARG001  # the kinds' one signature
    return Cost()


KIND = Kind(name="scale", version=1, materialise=Materialise.LAZY, infer=_infer, work=_work, cost=_cost)
