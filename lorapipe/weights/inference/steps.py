"""What a step makes of specs: the torch-free twins of the algebra.

``plan`` infers results from these functions, and the algebra builds the specs of its
results with the same functions, so that the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.binding import Binding
from lorapipe.weights.inference.forms import factored, needs_deltas, passes
from lorapipe.weights.inference.joining import SpecTerm, join
from lorapipe.weights.inference.metadata import hidden_spec
from lorapipe.weights.inference.operating import Merged, check_operators, grown, held
from lorapipe.weights.inference.ranks import Ranks, least_size
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleId

__all__ = [
    "Factors",
    "concat_spec",
    "filter_spec",
    "merge_spec",
    "module_factors",
    "resize_spec",
    "scale_spec",
    "shuffle_spec",
    "slice_spec",
]


Factors = float | Mapping[ModuleId, float]
"""What deltas are multiplied with: all by one number, or each module by its own."""


def module_factors(spec: AdapterSpec, factors: Factors) -> dict[ModuleId, float]:
    """What ``scale`` multiplies each module with; a module scaled to 0 is not in it.

    Raises :class:`RecipeError` ``not-a-number``, or ``nothing-left`` when every module is
    scaled to 0.
    """
    each = factors if isinstance(factors, Mapping) else dict.fromkeys(spec.modules, factors)
    for value in each.values():
        if not isfinite(value):
            raise RecipeError("not-a-number", f"a LoRA cannot be scaled by {value}")
    live = {module: each[module] for module in spec.modules if each[module] != 0.0}
    if not live:
        raise RecipeError("nothing-left", "every module is scaled to 0: nothing is left")
    return live


def scale_spec(spec: AdapterSpec, factors: Factors) -> AdapterSpec:
    """The spec after ``scale``: as it was, less the modules that are scaled to 0."""
    return filter_spec(spec, module_factors(spec, factors))


def filter_spec(spec: AdapterSpec, kept: Collection[ModuleId]) -> AdapterSpec:
    """The spec of some of the modules, in their order.

    Raises :class:`RecipeError` ``nothing-left`` when these are none.
    """
    if len(kept) == len(spec.modules):
        return spec
    if not kept:
        raise RecipeError(
            "nothing-left", "no module is kept: nothing is left", hint="keep more, or drop less"
        )
    return replace(spec, modules={module: known for module, known in spec.modules.items() if module in kept})


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
    a size in which not even rank 1 of each module has room, or of one where they are scored.
    """
    needs_deltas(spec, "svd-resize")
    scored = ranks.score is not None
    if ranks.max_size is not None and (least := least_size(spec, scored=scored)) > ranks.max_size:
        which = "one module" if scored else f"all {len(spec.modules)} modules"
        raise RecipeError(
            "max-size-too-small",
            f"rank 1 for {which} takes {least} bytes already",
            hint=f"'max-size' must be {least} or more",
            option="max-size",
        )
    modules = {module: factored(known, ranks.target(known, module)) for module, known in spec.modules.items()}
    return replace(spec, modules=modules, bounded=spec.bounded or ranks.bounded)


def slice_spec(spec: AdapterSpec, components: int) -> AdapterSpec:
    """The spec after ``dylora-slice``: no module of more ranks than ``components``.

    Biases and norms stay as they are. Raises :class:`RecipeError` ``rank-above`` where no module
    has so many, ``not-factors`` for other formats, ``not-additive`` for what is no delta.
    """
    needs_deltas(spec, "dylora-slice")
    plain = {module: known for module, known in spec.modules.items() if not passes(known)}
    odd = next(((module, known.form) for module, known in plain.items() if known.form is not None), None)
    if odd is not None:
        message = f"a {odd[1].name} has no components to take the first of"
        hint = "svd-resize makes a LoRA of any rank of it"
        raise RecipeError("not-factors", message, module=str(odd[0]), hint=hint, option="dylora-slice")
    most = max((known.rank for known in plain.values()), default=0)
    if components > most:
        message = f"the LoRA has {most} components, not {components}"
        raise RecipeError("rank-above", message, hint=f"{most} is the most", option="components")
    modules = {module: replace(known, rank=min(known.rank, components)) for module, known in plain.items()}
    return replace(spec, modules={**spec.modules, **modules})


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
