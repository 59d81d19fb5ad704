"""``merge-into-checkpoint``: W + the weighted sum of deltas, one tensor at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lorapipe.errors import RecipeError
from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import adapter_spec, checkpoint_spec
from lorapipe.weights.binding import Binding, bind, report
from lorapipe.weights.specs import CheckpointSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.checkpoint import Checkpoint

__all__ = ["KIND"]

_PORT = "merge-into-checkpoint"


def _infer(inputs: Inputs[Spec], params: Params) -> CheckpointSpec:
    base = checkpoint_spec(inputs.one(_PORT), _PORT)
    touched: set[str] = set()
    hidden = base.hidden
    for term in inputs.terms("loras"):
        adapter = adapter_spec(term.value, "loras", term.step)
        binding = bind(adapter, base)
        if binding.problems and params["unmatched"] == "error":
            raise RecipeError(
                "unmatched-modules",
                report(binding, term.step),
                hint="'unmatched: warn' or 'ignore' merges the rest",
                option="loras",
            )
        if term.weight != 0.0:
            touched.update(b.key for b in binding.bound)
            hidden = hidden or adapter.hidden
    if not touched:
        raise RecipeError(
            "nothing-to-merge", "no module of these LoRAs has a place in the checkpoint", option="loras"
        )
    return replace(base, touched=base.touched | touched, hidden=hidden)


def _work(inputs: Inputs[Any], params: Params, context: Context) -> Checkpoint:
    from lorapipe.weights.checkpoint import merge

    base: Checkpoint = inputs.one(_PORT)
    terms: list[tuple[float, Any, Binding]] = []
    for term in inputs.terms("loras"):
        binding = bind(term.value.spec, base.spec)
        if binding.problems and params["unmatched"] == "warn":
            context.note("unmatched", report(binding, term.step))
        terms.append((term.weight, term.value, binding))
    return merge(base, terms)


def _cost(inputs: Inputs[Spec], params: Params) -> Cost:
    base = checkpoint_spec(inputs.one(_PORT), _PORT)
    merged = _infer(inputs, params)
    flops = 0
    for term in inputs.terms("loras"):
        adapter = adapter_spec(term.value, "loras", term.step)
        for bound in bind(adapter, base).bound:
            module = adapter.modules[bound.module]
            flops += 2 * module.shape[0] * module.columns * module.rank
    return Cost(flops=flops + sum(merged.tensors[k].size for k in merged.touched))


def _warn(inputs: Inputs[Spec], params: Params) -> tuple[str, ...]:
    if params["unmatched"] != "warn":
        return ()
    base = checkpoint_spec(inputs.one(_PORT), _PORT)
    bindings = ((t.step, bind(adapter_spec(t.value, "loras", t.step), base)) for t in inputs.terms("loras"))
    return tuple(report(binding, step) for step, binding in bindings if binding.problems)


KIND = Kind(
    name=_PORT,
    version=1,
    materialise=Materialise.LAZY,
    infer=_infer,
    work=_work,
    cost=_cost,
    keyless=frozenset({"unmatched"}),
    warn=_warn,
)
