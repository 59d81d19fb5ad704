"""``scale``: multiply a LoRA's deltas by a strength: all, by component, by block, by module."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lorapipe.steps.blocks import read_blocks
from lorapipe.steps.kind import Context, Inputs, Kind, Materialise, Params
from lorapipe.steps.selecting import by_component, by_pattern
from lorapipe.steps.types import adapter_spec
from lorapipe.weights.inference.steps import scale_spec
from lorapipe.weights.specs import AdapterSpec, ModuleId, Spec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter

__all__ = ["KIND"]

_LEFT_OUT = (
    "{list: [...], default: 1} leaves them as they are, as kohya's scripts do; "
    "default: 0 takes them out, as LBW does"
)


def _factors(spec: AdapterSpec, params: Params) -> dict[ModuleId, float]:
    """Each module's strength: what is said of all, of its component, its block and its name, multiplied."""
    factors = dict.fromkeys(spec.modules, float(cast("float", params.get("by", 1.0))))
    components = cast("dict[str, float]", params.get("components") or {})
    found = [by_component(spec, components, "components")]
    if "blocks" in params:
        numbers = read_blocks(spec, params["blocks"], "blocks")
        found.append(numbers.spread(spec, None if numbers.listed else 1.0, _LEFT_OUT))
    if "modules" in params:
        found.append(by_pattern(spec, params["modules"], "modules"))
    for values in found:
        for module, value in values.items():
            factors[module] *= value
    return factors


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec:
    spec = adapter_spec(inputs.one("scale"), "scale")
    return scale_spec(spec, _factors(spec, params))


def _work(inputs: Inputs[Adapter], params: Params, context: Context) -> Adapter:  # noqa: ARG001  # the kinds' one signature
    from lorapipe.weights.algebra.combine import scale

    adapter = inputs.one("scale")
    return scale(adapter, _factors(adapter.spec, params))


KIND = Kind(name="scale", version=1, materialise=Materialise.LAZY, infer=_infer, work=_work)
