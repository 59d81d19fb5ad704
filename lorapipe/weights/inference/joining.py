"""How adapters join: which deltas meet on which modules. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite
from typing import NamedTuple

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.forms import cut, summed
from lorapipe.weights.inference.metadata import common_metadata, hidden_spec
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec, TensorSpec

__all__ = ["Joint", "Piece", "SpecTerm", "join"]

SpecTerm = tuple[str, float, AdapterSpec]
"""A term of a concat: the name it goes by (its step), its weight, its spec."""


# A tuple, as the modules' identities are: a concat of ten has ten thousand.
class Piece(NamedTuple):
    """What a term gives to a joined module: rows ``[start, stop)`` of one of its deltas.

    An operator is given whole, whatever rows are said.
    """

    term: int
    module: ModuleId
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Joint:
    """The spec of a concat, and each of its modules' pieces in term order."""

    spec: AdapterSpec
    pieces: Mapping[ModuleId, tuple[Piece, ...]]


def join(terms: Sequence[SpecTerm], titles: Mapping[str, str] | None = None) -> Joint:
    """Match the modules of several adapters; terms of weight 0 are left out.

    Ranks add up and the first term's shape and spelling are kept (see
    :func:`~.forms.summed`). Where terms cover a fused weight differently, their deltas are
    cut to the finest common rows. What is no delta (DoRA, OFT) passes if no other term has
    its rows. The dtype is the terms' common one, else ``F32``; metadata is what all sources
    agree on; extras are united. ``titles`` maps a family to its name for people.

    Raises :class:`RecipeError`: ``nothing-left``, ``family-mismatch``, ``family-unknown``,
    ``shapes-disagree``, ``extras-disagree``, ``not-a-number``, ``not-additive``, ``undecided``.
    """
    for name, weight, _ in terms:
        if not isfinite(weight):
            raise RecipeError("not-a-number", f"'{name}' cannot have the weight {weight}")
    live = [(index, name, spec) for index, (name, weight, spec) in enumerate(terms) if weight != 0.0]
    if not live:
        raise RecipeError("nothing-left", "every term has weight 0: nothing is left")
    family, also = _one_family([(name, spec) for _, name, spec in live], titles or {})
    modules, pieces = _modules(live)
    specs = [spec for _, _, spec in live]
    joined = replace(
        specs[0],
        family=family,
        also=also,
        modules=modules,
        dtype=specs[0].dtype if len({spec.dtype for spec in specs}) == 1 else "F32",
        metadata=common_metadata([spec.metadata for spec in specs]),
        extras=_extras([(name, spec) for _, name, spec in live]),
        bounded=any(spec.bounded for spec in specs),
    )
    return Joint(hidden_spec(joined) if any(spec.hidden for spec in specs) else joined, pieces)


def _one_family(
    specs: Sequence[tuple[str, AdapterSpec]], titles: Mapping[str, str]
) -> tuple[str | None, tuple[str, ...]]:
    """The family of all, and the others that all may belong to just as well.

    Where one may be of a family or of its variant, the others decide.
    """
    common = frozenset.intersection(*(spec.families for _, spec in specs))
    if common:
        family = next(spec.family for _, spec in specs if spec.family in common)
        return family, tuple(sorted(common - {family}))
    _same_family(specs, titles)
    return None, ()


def _same_family(specs: Sequence[tuple[str, AdapterSpec]], titles: Mapping[str, str]) -> None:
    first_name, first = specs[0]
    for name, spec in specs[1:]:
        ours, theirs = (_title(s.family, titles) for s in (first, spec))
        if first.family is not None and spec.family is not None and first.family != spec.family:
            raise RecipeError(
                "family-mismatch",
                f"'{first_name}' is for {ours}, '{name}' is for {theirs}",
                hint="only LoRAs of one model family can be joined",
            )
        same_names = not first.modules.keys().isdisjoint(spec.modules)
        if first.family != spec.family or (first.family is None and not same_names):
            raise RecipeError(
                "family-unknown",
                f"'{first_name}' is for {ours}, '{name}' is for {theirs}: their modules cannot be matched",
                hint="say `family:` on the step that loads a LoRA of unknown family",
            )


def _title(family: str | None, titles: Mapping[str, str]) -> str:
    return "an unknown family" if family is None else titles.get(family, family)


def _extras(specs: Sequence[tuple[str, AdapterSpec]]) -> dict[str, TensorSpec]:
    union: dict[str, TensorSpec] = {}
    for name, spec in specs:
        for extra, tensor in spec.extras.items():
            if union.setdefault(extra, tensor) != tensor:
                raise RecipeError(
                    "extras-disagree", f"'{name}' holds another '{extra}' than a LoRA before it"
                )
    return union


def _modules(
    live: Sequence[tuple[int, str, AdapterSpec]],
) -> tuple[dict[ModuleId, ModuleSpec], dict[ModuleId, tuple[Piece, ...]]]:
    _operators_are_alone(live)
    ends = _ends(live)
    modules: dict[ModuleId, ModuleSpec] = {}
    pieces: dict[ModuleId, tuple[Piece, ...]] = {}
    for index, name, spec in live:
        for module, known in spec.modules.items():
            if not known.additive:
                modules[module], pieces[module] = known, (Piece(index, module, 0, known.shape[0]),)
                continue
            for target, piece in _cut(index, module, known, ends[module.component, module.key]):
                if target != module and _is_undecided(known):
                    raise _undecided(module)
                part = cut(known, piece.stop - piece.start)
                modules[target] = _added(modules.get(target), part, target, name)
                pieces[target] = (*pieces.get(target, ()), piece)
    return modules, pieces


def _operators_are_alone(live: Sequence[tuple[int, str, AdapterSpec]]) -> None:
    """Refuse what has rows in common with something that is no delta."""
    if all(known.additive for _, _, spec in live for known in spec.modules.values()):
        return
    held: dict[tuple[str, str], list[tuple[str, ModuleId, ModuleSpec]]] = {}
    for _, name, spec in live:
        for module, known in spec.modules.items():
            others = held.setdefault((module.component, module.key), [])
            for other, place, before in others:
                if not (known.additive and before.additive) and _overlap(module.rows, place.rows):
                    raise _not_additive(module, (other, before), (name, known))
            others.append((name, module, known))


def _overlap(one: tuple[int, int] | None, two: tuple[int, int] | None) -> bool:
    return one is None or two is None or (one[0] < two[1] and two[0] < one[1])


def _not_additive(
    module: ModuleId, before: tuple[str, ModuleSpec], new: tuple[str, ModuleSpec]
) -> RecipeError:
    forms = [known.form.name if known.form else "LoRA" for _, known in (before, new)]
    both = not (before[1].additive or new[1].additive)
    return RecipeError(
        "not-additive",
        f"'{before[0]}' is {forms[0]} here and '{new[0]}' {forms[1]}, which cannot be joined",
        module=str(module),
        hint="merge them into a checkpoint, one after the other"
        if both
        else "give both to merge-into-checkpoint, which takes deltas beside one that is none",
    )


def _added(before: ModuleSpec | None, new: ModuleSpec, module: ModuleId, name: str) -> ModuleSpec:
    if before is None:
        return new
    if _is_undecided(before) or _is_undecided(new):
        raise _undecided(module)
    joined = summed(before, new)
    if joined is None:
        raise _disagree(module, before.shape, new.shape, name)
    return joined


def _is_undecided(known: ModuleSpec) -> bool:
    return known.form is not None and known.form.undecided


def _undecided(module: ModuleId) -> RecipeError:
    return RecipeError(
        "undecided",
        "it is only known when it is made whether this is a LoRA or a full difference",
        module=str(module),
        hint="svd-resize it first, which makes a LoRA of either",
        option="concat",
    )


def _disagree(module: ModuleId, before: tuple[int, ...], new: tuple[int, ...], name: str) -> RecipeError:
    return RecipeError(
        "shapes-disagree",
        f"the delta of '{name}' is {list(new)}, that of a LoRA before it {list(before)}",
        module=str(module),
        hint="they were trained on different models",
    )


@dataclass(frozen=True, slots=True)
class _Ends:
    """Where the modules on one weight begin and end; its height if one covers it whole."""

    points: tuple[int, ...]
    height: int | None


def _ends(live: Sequence[tuple[int, str, AdapterSpec]]) -> dict[tuple[str, str], _Ends]:
    points: dict[tuple[str, str], set[int]] = {}
    heights: dict[tuple[str, str], int] = {}
    for _, name, spec in live:
        for module, known in spec.modules.items():
            key, height = (module.component, module.key), known.shape[0]
            points.setdefault(key, set()).update(module.rows or (0, height))
            before = heights.setdefault(key, height) if module.rows is None else height
            if before != height:
                raise _disagree(module, (before, *known.shape[1:]), known.shape, name)
    return {key: _Ends(tuple(sorted(found)), heights.get(key)) for key, found in points.items()}


def _cut(term: int, module: ModuleId, known: ModuleSpec, ends: _Ends) -> Iterator[tuple[ModuleId, Piece]]:
    """A module's delta, cut at every end of another that falls inside of it."""
    first, last = module.rows or (0, known.shape[0])
    for start, stop in pairwise(point for point in ends.points if first <= point <= last):
        rows = None if (start, stop) == (0, ends.height) else (start, stop)
        target = module if rows == module.rows else ModuleId(module.component, module.key, rows)
        yield target, Piece(term, module, start - first, stop - first)
