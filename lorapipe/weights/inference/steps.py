"""What a step makes of specs: the torch-free twins of the algebra.

``plan`` infers results from these functions, and the algebra builds the specs of its
results with the same functions, so that the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from math import isfinite

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.binding import Binding
from lorapipe.weights.inference.forms import factored, needs_deltas
from lorapipe.weights.inference.joining import SpecTerm, join
from lorapipe.weights.inference.metadata import hidden_spec
from lorapipe.weights.inference.operating import Merged, check_operators, grown, held
from lorapipe.weights.inference.ranks import Ranks, least_size
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleId

__all__ = [
    "concat_spec",
    "merge_spec",
    "module_factors",
    "resize_spec",
    "scale_spec",
    "shuffle_spec",
]


def module_factors(
    spec: AdapterSpec, by: float = 1.0, components: Mapping[str, float] | None = None
) -> dict[ModuleId, float]:
    """What ``scale`` multiplies each module with; a module scaled to 0 is not in it.

    ``te`` means every component whose name begins so, unless that one is named itself.

    Raises :class:`RecipeError` ``unknown-component``, ``not-a-number``, or
    ``nothing-left`` when every module is scaled to 0.
    """
    components = components or {}
    present = sorted({module.component for module in spec.modules})
    for value in (by, *components.values()):
        if not isfinite(value):
            raise RecipeError("not-a-number", f"a LoRA cannot be scaled by {value}")
    for name in components:
        if not any(_covers(name, component) for component in present):
            raise _unknown_component(name, present)
    factors: dict[ModuleId, float] = {}
    for module in spec.modules:
        named = [name for name in components if _covers(name, module.component)]
        factor = by * components[max(named, key=len)] if named else by
        if factor != 0.0:
            factors[module] = factor
    if not factors:
        raise RecipeError("nothing-left", "every module is scaled to 0: nothing is left")
    return factors


def _covers(name: str, component: str) -> bool:
    return component == name or (name == "te" and component.startswith("te"))


def _unknown_component(name: str, present: Sequence[str]) -> RecipeError:
    known = [component for component in present if component]
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        hint = f"did you mean '{near[0]}'?"
    elif known:
        hint = f"it has {', '.join(known)}"
    else:
        hint = "its family is not known: say `family:` on the step that loads it"
    return RecipeError(
        "unknown-component", f"the LoRA has no component '{name}'", hint=hint, option="components"
    )


def scale_spec(
    spec: AdapterSpec, by: float = 1.0, components: Mapping[str, float] | None = None
) -> AdapterSpec:
    """The spec after ``scale``: as it was, less the modules that are scaled to 0."""
    factors = module_factors(spec, by, components)
    if len(factors) == len(spec.modules):
        return spec
    return replace(spec, modules={module: spec.modules[module] for module in factors})


def concat_spec(terms: Sequence[SpecTerm], titles: Mapping[str, str] | None = None) -> AdapterSpec:
    """The spec after ``concat`` of ``(name, weight, spec)`` terms; see :func:`~.joining.join`."""
    return join(terms, titles).spec


def shuffle_spec(spec: AdapterSpec, mode: str = "rotate") -> AdapterSpec:
    """The spec after ``shuffle``: hidden; ``rotate`` leaves no rank above the full one.

    Every delta becomes plain factors, but for biases and norms. Raises :class:`RecipeError`
    ``not-additive`` for what is no delta.
    """
    needs_deltas(spec, "shuffle")
    modules = {
        module: factored(known, known.rank if mode == "permute" else known.full_rank)
        for module, known in spec.modules.items()
    }
    return hidden_spec(replace(spec, modules=modules))


def resize_spec(spec: AdapterSpec, ranks: Ranks) -> AdapterSpec:
    """The spec after ``svd-resize``: plain factors, no module above its target.

    Biases and norms stay as they are. Where the data decide, the ranks are bounds. Raises
    :class:`RecipeError` ``not-additive`` for what is no delta, ``max-size-too-small`` for
    a size in which not even rank 1 of each module has room.
    """
    needs_deltas(spec, "svd-resize")
    if ranks.max_size is not None and (least := least_size(spec)) > ranks.max_size:
        raise RecipeError(
            "max-size-too-small",
            f"rank 1 for all {len(spec.modules)} modules takes {least} bytes already",
            hint=f"'max-size' must be {least} or more",
            option="max-size",
        )
    modules = {module: factored(known, ranks.target(known)) for module, known in spec.modules.items()}
    return replace(spec, modules=modules, bounded=spec.bounded or ranks.bounded)


def merge_spec(
    checkpoint: CheckpointSpec,
    terms: Sequence[tuple[float, AdapterSpec, Binding]],
    rule: str = "exact",
    names: Sequence[str] = (),
) -> CheckpointSpec:
    """The spec after ``merge-into-checkpoint``: which of the file's tensors are touched, and their shapes.

    ``rule`` is what strengths mean to modules that are no deltas, ``names`` what errors call
    the terms. Raises :class:`RecipeError` ``nothing-left`` when no term adds anything, and as
    :func:`~.operating.check_operators` does.
    """
    live = list(_live(terms, names))
    touched = {bound.key for _, _, binding in live for bound in binding.bound}
    if not touched:
        raise RecipeError("nothing-left", "no LoRA adds anything to the checkpoint", option="loras")
    check_operators(live, checkpoint.tensors, rule)
    tensors = grown(live, checkpoint.tensors)
    return replace(
        checkpoint,
        tensors=tensors,
        touched=checkpoint.touched | touched,
        hidden=checkpoint.hidden or any(adapter.hidden for _, adapter, _ in live),
        held=max(checkpoint.held, held(live, tensors)),
    )


def _live(terms: Sequence[tuple[float, AdapterSpec, Binding]], names: Sequence[str]) -> Iterator[Merged]:
    for (weight, adapter, binding), name in zip(terms, names or ["a LoRA"] * len(terms), strict=True):
        if not isfinite(weight):
            raise RecipeError("not-a-number", f"a LoRA cannot have the weight {weight}")
        if weight != 0.0:
            yield name, adapter, binding
