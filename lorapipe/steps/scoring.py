"""What ``svd-resize`` scores components against: the option read, and the base's weights found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from lorapipe.architectures import titles
from lorapipe.errors import RecipeError
from lorapipe.steps.kind import Context, Cost, Inputs, Params
from lorapipe.steps.types import adapter_spec, checkpoint_spec
from lorapipe.weights.inference.binding import Binding, bind, unmatched
from lorapipe.weights.inference.forms import passes
from lorapipe.weights.inference.metadata import hidden_spec
from lorapipe.weights.inference.scoring import Score
from lorapipe.weights.specs import DTYPES, AdapterSpec, CheckpointSpec, Spec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.resize import Base

__all__ = ["AGAINST", "base_weights", "bind_base", "read_score", "scored_cost", "source_spec"]

AGAINST = "score.against"


def read_score(params: Params) -> Score | None:
    """How components are scored, if they are: ``by`` is a name, a list of names, or a map to weights."""
    said = cast("Mapping[str, Any] | None", params.get("score"))
    if said is None:
        return None
    by = said["by"]
    if not isinstance(by, Mapping):
        names = [by] if isinstance(by, str) else by
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            hint = f"to count it more, give weights: {{{twice}: 2, ...}}"
            raise RecipeError("named-twice", f"'by' names '{twice}' twice", hint=hint, option="score")
        by = dict.fromkeys(names, 1.0)
    return Score(by, said.get("threshold"))


def source_spec(inputs: Inputs[Any], port: str) -> AdapterSpec:
    """The LoRA's spec. A base that hides its sources hides them in what is chosen by it, too."""
    spec = adapter_spec(_spec(inputs.one(port)), port)
    base = _base(inputs)
    return spec if base is None or not base.hidden else hidden_spec(spec)


def _base(inputs: Inputs[Any]) -> CheckpointSpec | None:
    if AGAINST not in inputs.ports:
        return None
    (term,) = inputs.terms(AGAINST)
    try:
        return checkpoint_spec(_spec(term.value), "against", term.step)
    except RecipeError as error:
        error.option = "score"
        raise


def bind_base(inputs: Inputs[Any], port: str, params: Params) -> Binding | None:
    """Where the LoRA's modules are in the base; ``None`` where no score is by one.

    Raises :class:`RecipeError` ``needs-base``, ``unmatched-modules``, and as
    :func:`~lorapipe.weights.inference.binding.bind` does.
    """
    score = read_score(params)
    if score is None or not score.needs_base:
        return None
    base = _base(inputs)
    if base is None:
        problem = "scores by 'spectral', 'frobenius' and 'subspace' are against a base"
        hint = "name the step that loads it: {against: base, by: ...}"
        raise RecipeError("needs-base", problem, hint=hint, option="score")
    spec, name = source_spec(inputs, port), inputs.terms(port)[0].step
    scored = {module: known for module, known in spec.modules.items() if not passes(known)}
    try:
        binding = bind(replace(spec, modules=scored), base, titles(), name)
    except RecipeError as error:
        error.option = "score"
        raise
    if binding.problems:
        hint = "score against the model that it was trained on, or leave them out with 'filter'"
        raise unmatched(binding, name, hint=hint, option="score")
    return binding


def base_weights(inputs: Inputs[Any], port: str, params: Params, context: Context) -> Base | None:
    """What gives the weights that scores are by."""
    from lorapipe.weights.checkpoints.weights import Weights

    binding = bind_base(inputs, port, params)
    if binding is None:
        return None
    (term,) = inputs.terms(AGAINST)
    return Weights.of(term.value, binding, term.step, context.compute, context.device).matrix


def scored_cost(inputs: Inputs[Spec], port: str, params: Params, own: Cost) -> Cost:
    """A resize's ``own`` cost and that of its scores: each weight of the base is read and looked at whole."""
    binding, score = bind_base(inputs, port, params), read_score(params)
    if binding is None or score is None:
        return own
    spec = source_spec(inputs, port)
    base = checkpoint_spec(inputs.one(AGAINST), AGAINST)
    costs, largest = dict(zip(spec.modules, own.items, strict=True)), 0
    for module, parts in Counter(bound.module for bound in binding.bound).items():
        known = spec.modules[module]
        size, short = known.shape[0] * known.columns, known.full_rank
        costs[module] += 2 * size
        # A Gram matrix and its eigenvalues; a product with the components.
        costs[module] += 2 * size * short + 4 * short**3 if "spectral" in score.live else 0
        costs[module] += 2 * size * min(known.rank, short) if "subspace" in score.live else 0
        # The weight, and the parts it is joined from; the Gram matrix, a copy, and what LAPACK takes.
        held = size * min(parts, 2) + (3 * short**2 if "spectral" in score.live else 0)
        largest = max(largest, held)
    # What an operator has to see at once, in the types and numbers of copies that a merge has.
    each = own.each + DTYPES["F64"] * (largest + 4 * base.held)
    items = tuple(costs.values())
    return replace(own, read=sum(_read(binding, base)), flops=sum(items), each=each, items=items)


def _read(binding: Binding, base: CheckpointSpec) -> Iterator[int]:
    """Bytes of the base that are read, place by place."""
    for bound in binding.bound:
        tensor = base.tensors[bound.key]
        height = tensor.shape[0]
        start, stop = (0, height) if bound.transposed or bound.rows is None else bound.rows
        yield tensor.nbytes * (stop - start) // max(1, height)


def _spec(value: Any) -> Spec:
    """The spec of a value; of a spec itself."""
    return cast("Spec", getattr(value, "spec", value))
