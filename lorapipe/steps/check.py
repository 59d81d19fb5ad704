"""``check``: what must hold of a LoRA or a checkpoint before anything made of it is saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from lorapipe.architectures import titles
from lorapipe.errors import CheckFailed, RecipeError, gathered
from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import at_work
from lorapipe.weights.blocks import BLOCK_ELEMENTS, SLAB_ELEMENTS
from lorapipe.weights.inference.checking import Assertions, Figure, Limits, foretold, judge, ranked
from lorapipe.weights.inference.comparing import differ, incomparable
from lorapipe.weights.inference.forms import needs_deltas
from lorapipe.weights.specs import DTYPES, AdapterSpec, CheckpointSpec, Spec
from lorapipe.weights.verdicts import CheckSpec

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter
    from lorapipe.weights.checkpoints.checkpoint import Checkpoint

__all__ = ["KIND"]

_PORT, _OF, _DIFFERS = "check", "energy.of", "differs-from"

Known = AdapterSpec | CheckpointSpec


def _infer(inputs: Inputs[Spec], params: Params) -> CheckSpec:
    errors = list(_problems(inputs, params))
    if errors:
        raise gathered(errors)
    spec, other = _known(inputs.one(_PORT)), _other(inputs, _DIFFERS)
    return foretold(spec, _asserted(inputs, params), other is not None and differ(spec, other))


def _problems(inputs: Inputs[Spec], params: Params) -> Iterator[RecipeError]:
    spec, asserted = _known(inputs.one(_PORT)), _asserted(inputs, params)
    if asserted == Assertions():
        hint = "say 'finite: true', or another assertion"
        yield RecipeError("no-assertion", "it asserts nothing", hint=hint, option="finite")
    yield from _not_asked_of(spec, asserted)
    for port, option in ((_OF, "energy"), (_DIFFERS, _DIFFERS)):
        other = _other(inputs, port)
        if other is not None:
            yield from _wrongly_compared(inputs, port, option, spec, other)


def _not_asked_of(spec: Known, asserted: Assertions) -> Iterator[RecipeError]:
    """Assertions that mean nothing for what is checked."""
    if asserted.rank is not None and isinstance(spec, CheckpointSpec):
        hint = "check the LoRA before it is merged"
        yield RecipeError("wrong-type", "a checkpoint has no ranks", hint=hint, option="rank")
    if (
        asserted.rank is not None
        and isinstance(spec, AdapterSpec)
        and not any(map(ranked, spec.modules.values()))
    ):
        yield RecipeError("no-ranks", "no module of it has a rank", hint="leave 'rank' out", option="rank")
    for option, asked in (("norm", asserted.norm), ("energy", asserted.of)):
        if asked is not None and isinstance(spec, AdapterSpec):
            try:
                needs_deltas(spec, option)
            except RecipeError as error:
                error.hint = "check the checkpoint that it is merged into"
                yield error


def _wrongly_compared(
    inputs: Inputs[Spec], port: str, option: str, spec: Known, other: Known
) -> Iterator[RecipeError]:
    (name, mine) = (inputs.terms(one)[0].step for one in (port, _PORT))
    if name == mine:
        message, hint = f"'{name}' is compared with itself", "name the step that it was made of"
        yield RecipeError("self-comparison", message, hint=hint, option=option)
    elif type(spec) is not type(other):
        hint = "compare a LoRA with a LoRA, a checkpoint with a checkpoint"
        what = "a checkpoint" if isinstance(other, CheckpointSpec) else "a LoRA"
        yield RecipeError("wrong-type", f"'{name}' is {what}, '{mine}' is not", hint=hint, option=option)
    elif port == _OF:
        for error in incomparable(spec, other, name, titles()):
            error.option = option
            yield error
        if isinstance(other, AdapterSpec):
            yield from _not_asked_of(other, Assertions(of=name))


def _known(spec: Spec) -> Known:
    if isinstance(spec, AdapterSpec | CheckpointSpec):
        return spec
    message, hint = "'check' takes a LoRA or a checkpoint", "check what is saved, before it is"
    raise RecipeError("wrong-type", message, hint=hint, option=_PORT)


def _other(inputs: Inputs[Any], port: str) -> Any:
    """What it is compared with there, if anything."""
    return inputs.one(port) if port in inputs.ports else None


def _limits(given: Any) -> Limits | None:
    """Limits as they are written: ``{min: 4, max: 32}``, or a number that is both."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        return Limits(given, given)
    return Limits(given.get("min"), given.get("max"))


def _asserted(inputs: Inputs[Any], params: Params) -> Assertions:
    energy = cast("Mapping[str, float]", params.get("energy") or {})
    steps = {port: inputs.terms(port)[0].step for port in (_OF, _DIFFERS) if port in inputs.ports}
    return Assertions(
        rank=_limits(params.get("rank")),
        modules=_limits(params.get("modules")),
        norm=_limits(params.get("norm")),
        energy=Limits(energy["min"]) if "min" in energy else None,
        total=Limits(energy["total"]) if "total" in energy else None,
        of=steps.get(_OF),
        differs_from=steps.get(_DIFFERS),
        finite=bool(params.get("finite")),
    )


def _work(inputs: Inputs[Any], params: Params, context: Context) -> dict[str, object]:
    """The figures of all that is asserted, as JSON; noted also where not all of it holds.

    Raises :class:`~lorapipe.errors.CheckFailed` ``check-failed``, or several.
    """
    value: Adapter | Checkpoint = inputs.one(_PORT)
    asserted = _asserted(inputs, params)
    figures, differs = _measured(value, inputs, asserted, context)
    told, broken = judge(value.spec, asserted, figures, differs)
    errors = [CheckFailed("check-failed", b.message, option=b.option, details=b.details) for b in broken]
    if errors:
        context.note("measured", told)
        raise gathered(errors)
    context.note("holds", told)
    return told


def _measured(
    value: Adapter | Checkpoint, inputs: Inputs[Any], asserted: Assertions, context: Context
) -> tuple[dict[str, Figure], str | None]:
    """Figures by module or tensor, and one in which it differs from what it must not be equal to."""
    from lorapipe.weights.algebra import measure as adapters  # they need torch
    from lorapipe.weights.algebra.adapter import Adapter
    from lorapipe.weights.checkpoints import measure as checkpoints

    of, other = _other(inputs, _OF), _other(inputs, _DIFFERS)
    shown = other is not None and differ(value.spec, other.spec)
    there = None if shown else other
    figures: dict[str, Figure] = {}
    if isinstance(value, Adapter):
        if asserted.open:
            figures = adapters.measure(
                value, of=of, differs_from=there, compute=context.compute, each=context.each
            )
        found = next((name for name, figure in figures.items() if figure.differs), None)
        return figures, "its modules" if shown else found
    if asserted.finite or asserted.norm is not None or of is not None:
        means = {"compute": context.compute, "device": context.device}
        figures = checkpoints.measure(value, of=of, each=context.each, **means)
    if there is None:
        return figures, "its tensors" if shown else None
    return figures, checkpoints.differs(value, there, compute=context.compute, device=context.device)


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:  # noqa: ARG001  # the kinds' one signature
    specs = [_known(term.value) for terms in inputs.ports.values() for term in terms]
    flops = each = 0
    for spec in specs:
        if isinstance(spec, AdapterSpec):
            flops += sum(2 * known.elements * known.rank for known in spec.modules.values())
            each += at_work(spec)
        else:
            flops += 4 * sum(tensor.size for tensor in spec.tensors.values())
            each += _slab(spec)
    return Cost(flops=flops, each=each)


def _slab(spec: CheckpointSpec) -> int:
    """What of a checkpoint is in memory at a time: a slab as it is in the file and summed, and blocks."""
    largest = max((tensor.size for tensor in spec.tensors.values()), default=0)
    widest = max((DTYPES[tensor.dtype] for tensor in spec.tensors.values()), default=0)
    slab = min(largest, SLAB_ELEMENTS) * (DTYPES["F64"] + widest) + 4 * DTYPES["F64"] * BLOCK_ELEMENTS
    return slab + spec.held * (2 * DTYPES["F64"] + widest)


KIND = Kind(name=_PORT, version=1, materialise=Materialise.CHECK, infer=_infer, work=_work, cost=_cost)
