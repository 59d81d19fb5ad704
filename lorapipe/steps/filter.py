"""``filter``: some of a LoRA's modules, by component, block or name."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lorapipe.recipe.model import JSON
from lorapipe.steps.kind import Context, Inputs, Kind, Materialise, Params
from lorapipe.steps.selecting import chosen
from lorapipe.steps.types import adapter_spec
from lorapipe.weights.inference.steps import filter_spec
from lorapipe.weights.specs import AdapterSpec, ModuleId, Spec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter

__all__ = ["KIND"]


def _kept(spec: AdapterSpec, params: Params) -> set[ModuleId]:
    """What ``keep`` chooses, all without it, less what ``drop`` chooses."""
    kept = set(spec.modules)
    if "keep" in params:
        kept = chosen(spec, cast("dict[str, JSON]", params["keep"]), "keep")
    if "drop" in params:
        kept -= chosen(spec, cast("dict[str, JSON]", params["drop"]), "drop")
    return kept


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec:
    spec = adapter_spec(inputs.one("filter"), "filter")
    return filter_spec(spec, _kept(spec, params))


def _work(inputs: Inputs[Adapter], params: Params, context: Context) -> Adapter:  # noqa: ARG001  # the kinds' one signature
    from lorapipe.weights.algebra.combine import kept

    adapter = inputs.one("filter")
    return kept(adapter, _kept(adapter.spec, params))


def _warn(inputs: Inputs[Spec], params: Params, result: Spec) -> tuple[str, ...]:  # noqa: ARG001  # the kinds' one signature
    spec, left = adapter_spec(inputs.one("filter"), "filter"), adapter_spec(result, "filter")
    if len(left.modules) < len(spec.modules):
        return ()
    return ("it keeps every module: nothing is filtered",)


KIND = Kind(
    name="filter",
    version=1,
    materialise=Materialise.LAZY,
    infer=_infer,
    work=_work,
    warn=_warn,
)
