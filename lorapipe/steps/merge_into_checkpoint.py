"""``merge-into-checkpoint``: W + the weighted sum of deltas, one tensor at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorapipe.architectures import titles
from lorapipe.errors import ManyErrors, RecipeError
from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import adapter_spec, checkpoint_spec
from lorapipe.weights.inference.binding import Binding, bind, report, unmatched
from lorapipe.weights.inference.steps import merge_spec
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.checkpoints.checkpoint import Checkpoint

__all__ = ["KIND", "bindings"]

_PORT = "merge-into-checkpoint"


def bindings(inputs: Inputs[Spec]) -> list[tuple[str, float, AdapterSpec, Binding]]:
    """Each LoRA's step, weight, spec, and where its modules go in the checkpoint."""
    base = checkpoint_spec(inputs.one(_PORT), _PORT)
    found = []
    for term in inputs.terms("loras"):
        adapter = adapter_spec(term.value, "loras", term.step)
        found.append((term.step, term.weight, adapter, bind(adapter, base, titles(), term.step)))
    return found


def _infer(inputs: Inputs[Spec], params: Params) -> CheckpointSpec:
    terms = bindings(inputs)
    lost = [(step, binding) for step, _, _, binding in terms if binding.problems]
    if lost and params["unmatched"] == "error":
        raise ManyErrors(_unmatched(step, binding) for step, binding in lost)
    base = checkpoint_spec(inputs.one(_PORT), _PORT)
    known = [(weight, adapter, binding) for _, weight, adapter, binding in terms]
    return merge_spec(base, known, str(params["strength-rule"]), [step for step, _, _, _ in terms])


def _unmatched(step: str, binding: Binding) -> RecipeError:
    hint = "with 'unmatched: warn' or 'ignore' the others are merged" if binding.bound else None
    return unmatched(binding, step, hint=hint, option="loras")


def _work(inputs: Inputs[Any], params: Params, context: Context) -> Checkpoint:  # noqa: ARG001  # the kinds' one signature
    from lorapipe.weights.checkpoints.checkpoint import merge

    base: Checkpoint = inputs.one(_PORT)
    bound = [(t.weight, t.value, bind(t.value.spec, base.spec, titles())) for t in inputs.terms("loras")]
    return merge(base, bound, str(params["strength-rule"]))


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:  # noqa: ARG001  # the kinds' one signature
    flops = 0
    for _, _, adapter, binding in bindings(inputs):
        modules = [adapter.modules[bound.module] for bound in binding.bound]
        flops += sum(2 * m.shape[0] * m.columns * m.rank for m in modules)
    return Cost(flops=flops)


def _warn(inputs: Inputs[Spec], params: Params, result: Spec) -> tuple[str, ...]:  # noqa: ARG001  # the kinds' one signature
    if params["unmatched"] != "warn":
        return ()
    return tuple(report(b, step) for step, _, _, b in bindings(inputs) if b.problems)


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
