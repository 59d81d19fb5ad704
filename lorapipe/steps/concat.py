"""``concat``: the exact weighted sum of LoRAs, rank after rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lorapipe.architectures import titles
from lorapipe.formats.layouts.spelling import one_spelling
from lorapipe.steps.kind import Context, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import adapter_spec
from lorapipe.weights.inference.steps import concat_spec
from lorapipe.weights.specs import AdapterSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter

__all__ = ["KIND"]


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec:  # noqa: ARG001  # the kinds' one signature
    terms = inputs.terms("concat")
    specs = [(t.step, t.weight, adapter_spec(t.value, "concat", t.step)) for t in terms]
    return one_spelling(concat_spec(specs, titles()), _first([(weight, spec) for _, weight, spec in specs]))


def _work(inputs: Inputs[Adapter], params: Params, context: Context) -> Adapter:  # noqa: ARG001  # the kinds' one signature
    from lorapipe.weights.algebra.combine import concat

    terms = inputs.terms("concat")
    summed = concat([(t.step, t.weight, t.value) for t in terms], titles())
    first = _first([(t.weight, t.value.spec) for t in terms])
    return replace(summed, spec=one_spelling(summed.spec, first))


def _first(specs: Sequence[tuple[float, AdapterSpec]]) -> AdapterSpec:
    """The first LoRA that is not left out: it names the modules."""
    return next(spec for weight, spec in specs if weight != 0.0)


KIND = Kind(name="concat", version=1, materialise=Materialise.LAZY, infer=_infer, work=_work)
