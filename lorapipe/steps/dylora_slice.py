"""``dylora-slice``: the first components of a DyLoRA as an ordinary LoRA."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lorapipe.steps.kind import Context, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import adapter_spec
from lorapipe.weights.inference.steps import slice_spec
from lorapipe.weights.specs import AdapterSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter

__all__ = ["KIND"]


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec:
    spec = adapter_spec(inputs.one("dylora-slice"), "dylora-slice")
    return slice_spec(spec, cast("int", params["components"]))


def _work(inputs: Inputs[Adapter], params: Params, context: Context) -> Adapter:  # noqa: ARG001  # the kinds' one signature
    from lorapipe.weights.algebra.slicing import sliced

    return sliced(
        inputs.one("dylora-slice"), cast("int", params["components"]), trained=params["alpha"] == "trained"
    )


KIND = Kind(name="dylora-slice", version=1, materialise=Materialise.LAZY, infer=_infer, work=_work)
