"""An adapter's modules against a checkpoint's keys, from the two specs alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod

from lorapipe.errors import RecipeError
from lorapipe.weights.specs import (
    FLOATING,
    AdapterSpec,
    CheckpointSpec,
    ModuleId,
    ModuleSpec,
    TensorSpec,
    canonical_shape,
)

__all__ = ["Binding", "Bound", "Unmatched", "bind", "report"]

_NAMED = 3
"""Modules that a report names; the others are counted."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A module that has its place: the file's ``key``, and its ``rows`` (all if ``None``)."""

    module: ModuleId
    key: str
    rows: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A module with no place in the checkpoint, and why.

    ``nearest`` are reference keys that the checkpoint has and that read alike; only the
    modules that a report names have them.
    """

    module: ModuleId
    reason: str
    nearest: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Binding:
    """Where each module of an adapter goes in a checkpoint, in the adapter's order."""

    bound: tuple[Bound, ...]
    problems: tuple[Unmatched, ...] = ()


def report(binding: Binding, name: str | None = None) -> str:
    """A line of counts, then one for each of the first modules that have no place.

    Line breaks in names become spaces, so that a name cannot pass for a line of its own.

    >>> lost = Unmatched(ModuleId("unet", "a.weight"), "the checkpoint has no such weight")
    >>> print(report(Binding((), (lost,)), "char"))
    1 of 1 modules of 'char' has no place in the checkpoint
      a.weight: the checkpoint has no such weight
      nothing fits: is this the model that the LoRA was trained on?
    """
    lost, total = len(binding.problems), len(binding.bound) + len(binding.problems)
    whose = f" of '{name}'" if name else ""
    lines = [f"{lost} of {total} modules{whose} {'has' if lost == 1 else 'have'} no place in the checkpoint"]
    for problem in binding.problems[:_NAMED]:
        near = f" (nearest: {', '.join(problem.nearest)})" if problem.nearest else ""
        lines.append("  " + " ".join(f"{problem.module}: {problem.reason}{near}".splitlines()))
    if lost > _NAMED:
        lines.append(f"  and {lost - _NAMED} more")
    if not binding.bound:
        lines.append("  nothing fits: is this the model that the LoRA was trained on?")
    return "\n".join(lines)


def bind(
    adapter: AdapterSpec,
    checkpoint: CheckpointSpec,
    titles: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Binding:
    """Find each module's weight in a checkpoint of the same family.

    ``titles`` maps a family to its name for people (``SD 1.x``); ``name`` is what errors
    call the adapter. 2-D deltas fit 1x1 kernels and the other way round. Two sides of
    unknown family bind by verbatim keys.

    Raises :class:`RecipeError` ``family-mismatch`` or ``family-unknown``.
    """
    _same_family(adapter.family, checkpoint.family, titles or {}, name)
    bound: list[Bound] = []
    problems: list[Unmatched] = []
    for module, spec in adapter.modules.items():
        key = checkpoint.keys.get(module.key)
        if key is None:
            near = tuple(get_close_matches(module.key, checkpoint.keys)) if len(problems) < _NAMED else ()
            problems.append(Unmatched(module, "the checkpoint has no such weight", near))
        elif (reason := _misfit(module, spec, checkpoint.tensors[key])) is not None:
            problems.append(Unmatched(module, reason))
        else:
            bound.append(Bound(module, key, module.rows))
    return Binding(tuple(bound), tuple(problems))


def _same_family(ours: str | None, theirs: str | None, titles: Mapping[str, str], name: str | None) -> None:
    if ours == theirs:
        return
    if ours is None or theirs is None:
        odd, known = ("LoRA", theirs) if ours is None else ("checkpoint", ours)
        title = titles.get(known or "", known)
        other = "checkpoint" if odd == "LoRA" else "LoRA"
        raise RecipeError(
            "family-unknown",
            f"the {other} is for {title}, the family of the {odd} is not known",
            hint=f"say `family: {known}` on the step that loads the {odd}, if that is what it is",
            option="loras",
        )
    who = f"'{name}'" if name else "this LoRA"
    raise RecipeError(
        "family-mismatch",
        f"{who} is for {titles.get(ours, ours)}, the checkpoint is {titles.get(theirs, theirs)}",
        hint="a LoRA fits only the model family that it was trained on",
        option="loras",
    )


def _misfit(module: ModuleId, spec: ModuleSpec, weight: TensorSpec) -> str | None:
    """Why a module's delta cannot be added to a weight, or ``None`` when it can."""
    if weight.dtype not in FLOATING:
        return f"the checkpoint's weight is {weight.dtype}, not a floating type"
    delta, whole = canonical_shape(spec.shape), canonical_shape(weight.shape)
    if module.rows is not None:
        start, stop = module.rows
        if not whole or stop > whole[0]:
            return f"the checkpoint's weight {list(weight.shape)} has no rows {start}:{stop}"
        whole = (stop - start, *whole[1:])
    if delta == whole:
        return None
    which = "rows" if module.rows is not None else "weight"
    same = " (as many values, another shape)" if prod(delta) == prod(whole) else ""
    return f"a delta {list(spec.shape)} does not fit the checkpoint's {which} {list(whole)}{same}"
