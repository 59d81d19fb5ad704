"""``concat``: the exact weighted sum of LoRAs, rank after rank."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lorapipe.architectures import titles
from lorapipe.formats.spelling import one_spelling
from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import adapter_spec
from lorapipe.weights.inference import concat_spec
from lorapipe.weights.specs import AdapterSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.adapter import Adapter

__all__ = ["KIND"]


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec:  # noqa: ARG001  # the kinds' one signature
    terms = inputs.terms("concat")
    specs = [(t.step, t.weight, adapter_spec(t.value, "concat", t.step)) for t in terms]
    return one_spelling(concat_spec(specs, titles()))


def _work(inputs: Inputs[Adapter], params: Params, context: Context) -> Adapter:  # noqa: ARG001  # the kinds' one signature
    from lorapipe.weights.combine import concat

    summed = concat([(t.step, t.weight, t.value) for t in inputs.terms("concat")], titles())
    return replace(summed, spec=one_spelling(summed.spec))


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:  # noqa: ARG001  # the kinds' one signature
    return Cost()


KIND = Kind(name="concat", version=1, materialise=Materialise.LAZY, infer=_infer, work=_work, cost=_cost)
