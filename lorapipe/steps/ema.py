"""``ema``: the moving average of a training run, made afterwards from the LoRAs that it saved."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from lorapipe.architectures import titles
from lorapipe.errors import RecipeError
from lorapipe.formats.layouts.spelling import one_spelling
from lorapipe.steps.kind import Context, Inputs, Kind, Materialise, Params, Weighted
from lorapipe.steps.types import adapter_spec
from lorapipe.weights.inference.averaging import average_spec, decay_weights, power_weights
from lorapipe.weights.inference.steps import concat_spec
from lorapipe.weights.specs import AdapterSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter

__all__ = ["KIND"]

_TRAINED = "ss_steps"
"""Where kohya's trainer writes how many steps it had done."""


def _weights(terms: Sequence[Weighted[Spec]] | Sequence[Weighted[Adapter]], params: Params) -> list[float]:
    """What each checkpoint counts. Raises :class:`RecipeError` for options that do not go together."""
    if any(term.weight != 1.0 for term in terms):
        problem = "the weights of an average follow from decay or sigma-rel"
        raise RecipeError(
            "weights-given", problem, hint="give a list: {ema: [first, second, third]}", option="ema"
        )
    if len(terms) < 2:
        raise RecipeError("one-checkpoint", "an average takes at least two LoRAs", option="ema")
    steps = cast("list[float] | None", params.get("steps"))
    if "decay" in params:
        for other in ("sigma-rel", "steps"):
            if other in params:
                problem = (
                    f"'decay' weighs the checkpoints one after the other: '{other}' has no place beside it"
                )
                raise RecipeError("decay-and-width", problem, hint="leave one out", option=other)
        return decay_weights(len(terms), cast("float", params["decay"]))
    if steps is not None and len(steps) != len(terms):
        count = "1 number" if len(steps) == 1 else f"{len(steps)} numbers"
        problem = f"'steps' has {count} for {len(terms)} LoRAs"
        raise RecipeError("bad-steps", problem, hint="one for each, in their order", option="steps")
    return power_weights(steps or range(1, len(terms) + 1), cast("float", params["sigma-rel"]))


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec:
    terms = inputs.terms("ema")
    specs = [(t.step, adapter_spec(t.value, "ema", t.step)) for t in terms]
    weights = _weights(terms, params)
    if params["average"] == "factors":
        found = average_spec(specs, titles())
    else:
        weighted = zip(specs, weights, strict=True)
        found = concat_spec([(step, weight, spec) for (step, spec), weight in weighted], titles())
    return one_spelling(found, specs[0][1])


def _work(inputs: Inputs[Adapter], params: Params, context: Context) -> Adapter:
    from dataclasses import replace

    from lorapipe.weights.algebra.average import average
    from lorapipe.weights.algebra.combine import concat

    terms = inputs.terms("ema")
    weighted = [(t.step, w, t.value) for t, w in zip(terms, _weights(terms, params), strict=True)]
    if params["average"] == "factors":
        found = average(weighted, titles(), compute=context.compute)
    else:
        found = concat(weighted, titles())
    return replace(found, spec=one_spelling(found.spec, terms[0].value.spec))


def _warn(inputs: Inputs[Spec], params: Params, result: Spec) -> tuple[str, ...]:  # noqa: ARG001  # the kinds' one signature
    """Where the LoRAs' own metadata tell of another order, or of uneven steps that were not given."""
    specs = [adapter_spec(t.value, "ema", t.step) for t in inputs.terms("ema")]
    said = [spec.metadata.get(_TRAINED, "") for spec in specs]
    if not all(text.isdecimal() for text in said):
        return ()
    steps = [int(text) for text in said]
    told = ", ".join(said)
    if any(later <= earlier for earlier, later in pairwise(steps)):
        return (f"the files say that they are of steps {told}: is this the order of the training?",)
    uneven = len({later - earlier for earlier, later in pairwise([0, *steps])}) > 1
    if "sigma-rel" in params and "steps" not in params and uneven:
        return (f"the files say that they are of steps {told}: with 'steps: [{told}]' each counts by these",)
    return ()


KIND = Kind(name="ema", version=1, materialise=Materialise.LAZY, infer=_infer, work=_work, warn=_warn)
