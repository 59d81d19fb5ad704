"""An adapter's modules against a checkpoint's keys, from the two specs alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.aliases import Aliases
from lorapipe.weights.inference.fitting import misfit, uncuttable
from lorapipe.weights.specs import (
    FLOATING,
    AdapterSpec,
    CheckpointSpec,
    ModuleId,
    ModuleSpec,
    Place,
    TensorSpec,
    canonical_shape,
)

__all__ = ["Binding", "Bound", "Unmatched", "bind", "report", "unmatched"]

_NAMED = 3
"""Modules that a report names; the others are counted."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A place that a module has: the file's ``key``, and its ``rows`` (all if ``None``).

    ``part`` are the rows of the module's delta that go there, all of them if ``None``: a
    file may keep apart, or in another order, what is one weight elsewhere. ``transposed``
    says that the file's tensor is the transpose of the weight.
    """

    module: ModuleId
    key: str
    rows: tuple[int, int] | None = None
    part: tuple[int, int] | None = None
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A module with no place in the checkpoint, and why.

    ``nearest`` are reference keys that the checkpoint has and that read alike; only the
    modules that a report names have them. ``quantised``: the checkpoint has weights in a
    format that nothing can be merged into.
    """

    module: ModuleId
    reason: str
    nearest: tuple[str, ...] = ()
    quantised: bool = False


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
    lost = len(binding.problems)
    total = len({bound.module for bound in binding.bound}) + lost
    whose = f" of '{name}'" if name else ""
    lines = [f"{lost} of {total} modules{whose} {'has' if lost == 1 else 'have'} no place in the checkpoint"]
    for problem in binding.problems[:_NAMED]:
        near = f" (nearest: {', '.join(problem.nearest)})" if problem.nearest else ""
        lines.append("  " + " ".join(f"{problem.module}: {problem.reason}{near}".splitlines()))
    if lost > _NAMED:
        lines.append(f"  and {lost - _NAMED} more")
    if any(problem.quantised for problem in binding.problems):
        lines.append("  merge into the model as it was before it was quantised (fp16, bf16 or fp8)")
    elif not binding.bound:
        lines.append("  nothing fits: is this the model that the LoRA was trained on?")
    return "\n".join(lines)


def unmatched(binding: Binding, name: str, *, hint: str | None, option: str) -> RecipeError:
    """The error ``unmatched-modules`` that names what has no place."""
    message, *details = report(binding, name).splitlines()
    return RecipeError(
        "unmatched-modules",
        message,
        hint=hint,
        details=[line.strip() for line in details],
        option=option,
    )


def bind(
    adapter: AdapterSpec,
    checkpoint: CheckpointSpec,
    titles: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Binding:
    """Find each module's weight in a checkpoint of the same family.

    ``titles`` maps a family to its name for people (``SD 1.x``); ``name`` is what errors
    call the adapter. 2-D deltas fit 1x1 kernels and the other way round. Two sides of
    unknown family bind by keys, as far as it is plain which is meant: see :mod:`~.aliases`.

    Raises :class:`RecipeError` ``family-mismatch`` or ``family-unknown``.
    """
    if checkpoint.family not in adapter.families:
        strange = () if adapter.family is not None else _strange(adapter, checkpoint)
        _same_family(adapter.family, checkpoint.family, titles or {}, name, strange)
    bound: list[Bound] = []
    problems: list[Unmatched] = []
    aliases = None if adapter.family is not None else Aliases({**checkpoint.keys, **checkpoint.frozen})
    taken: dict[str, ModuleId] = {}
    for module, spec in adapter.modules.items():
        key, unclear = _meant(module, aliases, taken)
        places = checkpoint.keys.get(key)
        if unclear is not None:
            problems.append(Unmatched(module, unclear))
        elif (format_name := checkpoint.frozen.get(key)) is not None:
            reason = f"the weight is quantised as {format_name}, into which nothing can be merged"
            problems.append(Unmatched(module, reason, quantised=True))
        elif places is None:
            near = tuple(get_close_matches(module.key, checkpoint.keys)) if len(problems) < _NAMED else ()
            problems.append(Unmatched(module, _missing(checkpoint), near, bool(checkpoint.frozen)))
        elif isinstance(found := _bound(module, spec, places, checkpoint.tensors), str):
            problems.append(Unmatched(module, found))
        elif (stays := _cannot_grow(module, spec, found, checkpoint)) is not None:
            problems.append(Unmatched(module, stays))
        else:
            bound += [*found, *_bias(module, key, spec, checkpoint)]
    return Binding(tuple(bound), tuple(problems))


def _missing(checkpoint: CheckpointSpec) -> str:
    # Nunchaku renames and joins what it quantises, so that the key alone would not tell.
    formats = " and ".join(sorted(set(checkpoint.frozen.values())))
    return "the checkpoint has no such weight" + (f", it is quantised as {formats}" if formats else "")


def _meant(module: ModuleId, aliases: Aliases | None, taken: dict[str, ModuleId]) -> tuple[str, str | None]:
    """The key that a module's means in this checkpoint; or why that cannot be told, beside its own."""
    if aliases is None:
        return module.key, None
    keys = aliases.find(module.key)
    if len(keys) > 1:
        return module.key, f"its name could mean {keys[0]} and {keys[1]}"
    key = keys[0] if keys else module.key
    first = taken.setdefault(key, module)
    if first != module:
        return key, f"its name means {key}, as that of {first} does"
    return key, None


def _bound(
    module: ModuleId, spec: ModuleSpec, places: tuple[Place, ...], tensors: Mapping[str, TensorSpec]
) -> list[Bound] | str:
    """The places of a module's rows, or why it has none."""
    if len(places) == 1 and places[0].rows is None:
        (place,) = places
        reason = _misfit(module, spec, tensors[place.key], transposed=place.transposed)
        if reason is None and place.transposed and module.rows is not None:
            reason = "the checkpoint keeps the weight transposed, where its rows are columns"
        return reason or [Bound(module, place.key, module.rows, None, place.transposed)]
    return _spread(module, spec, places, tensors)


def _spread(
    module: ModuleId, spec: ModuleSpec, places: tuple[Place, ...], tensors: Mapping[str, TensorSpec]
) -> list[Bound] | str:
    """A module's rows over the tensors between which the file divides the weight."""
    covered = sum(place.rows[1] - place.rows[0] for place in places if place.rows is not None)
    start, stop = module.rows or (0, spec.shape[0] or covered)
    found: list[Bound] = []
    for place in places:
        assert place.rows is not None
        first, last = max(start, place.rows[0]), min(stop, place.rows[1])
        if first >= last:
            continue
        weight = tensors[place.key]
        reason = _misfit(
            None, spec, replace(weight, shape=(stop - start, *weight.shape[1:])), transposed=False
        )
        reason = reason or uncuttable(spec.form, first - start, last - start, stop - start)
        if reason is not None:
            return reason
        row = first - place.rows[0] + place.first
        height = last - first
        rows = None if height == weight.shape[0] else (row, row + height)
        part = None if height == stop - start else (first - start, last - start)
        found.append(Bound(module, place.key, rows, part))
    placed = sum(b.part[1] - b.part[0] if b.part else stop - start for b in found)
    if placed != stop - start or (module.rows is None and covered != stop):
        return f"a delta {list(spec.shape)} does not fit the checkpoint's weight of {covered} rows"
    return found


def _cannot_grow(
    module: ModuleId, spec: ModuleSpec, found: list[Bound], checkpoint: CheckpointSpec
) -> str | None:
    """Why a weight cannot be padded, where that is what the module does first."""
    if spec.form is None or not spec.form.grows:
        return None
    whole = module.rows is None and len(found) == 1 and not found[0].part and not found[0].transposed
    if not whole:
        return "the weight is to be padded, which the checkpoint does not keep as one tensor"
    return "the weight is to be padded, which is scaled fp8" if found[0].key in checkpoint.scales else None


def _bias(module: ModuleId, key: str, spec: ModuleSpec, checkpoint: CheckpointSpec) -> list[Bound]:
    """The places of the bias beside the weight ``key``, where a format changes it along with the weight."""
    beside = key.removesuffix(".weight") + ".bias"
    if spec.form is None or not spec.form.biased or beside not in checkpoint.keys:
        return []
    found = _bound(module, replace(spec, shape=spec.shape[:1]), checkpoint.keys[beside], checkpoint.tensors)
    return [] if isinstance(found, str) else found


def _strange(adapter: AdapterSpec, checkpoint: CheckpointSpec) -> tuple[str, ...]:
    """How many modules of an unknown family there are, and what the first ones may have been meant for."""
    shown = list(adapter.modules)[:_NAMED]
    lines = [f"{len(adapter.modules)} modules have names that no known family has"]
    for module in shown:
        near = get_close_matches(module.key, checkpoint.keys)
        likely = f" (nearest: {', '.join(near)})" if near else ""
        lines.append(" ".join(f"{module}{likely}".split()))
    if len(adapter.modules) > len(shown):
        lines.append(f"and {len(adapter.modules) - len(shown)} more")
    return tuple(lines)


def _same_family(
    ours: str | None,
    theirs: str | None,
    titles: Mapping[str, str],
    name: str | None,
    details: tuple[str, ...],
) -> None:
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
            details=details,
            option="loras",
        )
    who = f"'{name}'" if name else "this LoRA"
    raise RecipeError(
        "family-mismatch",
        f"{who} is for {titles.get(ours, ours)}, the checkpoint is {titles.get(theirs, theirs)}",
        hint="a LoRA fits only the model family that it was trained on",
        option="loras",
    )


def _misfit(module: ModuleId | None, spec: ModuleSpec, weight: TensorSpec, *, transposed: bool) -> str | None:
    """Why a module cannot be merged into a weight, or ``None`` when it can."""
    if weight.dtype not in FLOATING:
        return f"the checkpoint's weight is {weight.dtype}, not a floating type"
    whole = canonical_shape(weight.shape)
    if transposed:
        whole = whole[::-1]
    if module is None or module.rows is None:
        return misfit(spec, whole)
    start, stop = module.rows
    if not whole or stop > whole[0]:
        return f"the checkpoint's weight {list(weight.shape)} has no rows {start}:{stop}"
    return misfit(spec, (stop - start, *whole[1:]), "rows")
