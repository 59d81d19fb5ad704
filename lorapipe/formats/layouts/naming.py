"""The names that a family's naming has for modules, and the rows of a weight that each means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lorapipe.architectures import Family, Target
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec

__all__ = ["Group", "Name", "Ranges", "groups", "height", "names_on", "naming_of", "own_names"]

Group = Mapping[ModuleId, ModuleSpec]
"""The modules on one reference key."""

Ranges = tuple[tuple[int, int], ...]
"""Half-open ranges of a weight's rows, in the order in which a module has them."""


@dataclass(frozen=True, slots=True)
class Name:
    """A module as a file calls it, and the rows of the reference weight that it has."""

    stem: str
    ranges: Ranges
    transposed: bool = False
    kind: str = "linear"

    def holds(self, start: int, stop: int) -> bool:
        """Whether rows ``[start, stop)`` are all in one of its ranges."""
        return any(first <= start and stop <= last for first, last in self.ranges)


def groups(spec: AdapterSpec) -> tuple[Group, ...]:
    """The adapter's modules by the weight that they are on, in the order in which these come first."""
    found: dict[tuple[str, str], dict[ModuleId, ModuleSpec]] = {}
    for module, known in spec.modules.items():
        found.setdefault((module.component, module.key), {})[module] = known
    return tuple(found.values())


def naming_of(known: Family, stems: Iterable[str]) -> str | None:
    """The naming that the first name tells: text encoders have one name in two namings.

    ``None`` where no naming of the family spells them so: a file's own style.
    """
    possible = list(known.namings)
    for stem in stems:
        target = known.lookup(stem)
        if target is None:
            continue
        fitting = [naming for naming in possible if known.spell(target, naming) == stem]
        if not fitting:
            break
        possible = fitting
        if len(possible) == 1:
            break
    return possible[0] if possible != list(known.namings) else None


def height(known: Family | None, group: Group) -> int | None:
    """The rows of the weight that a group is on, from its modules' own shapes.

    ``None`` where they are some rows of a weight of unknown height.
    """
    for module, spec in group.items():
        if module.rows is None:
            return spec.shape[0]
    if known is None:
        return None
    own = [target for spec in group.values() if (target := known.lookup(spec.spelling.stem)) is not None]
    key = next(iter(group)).key
    others = [target for naming in known.namings for target in known.on_key(naming, key)]
    least = max(module.rows[1] for module in group if module.rows is not None)
    for target in (*own, *others):
        for module in group:
            found = _whole(target, module)
            if found is not None and found >= least:
                return found
    return None


def _whole(target: Target, module: ModuleId) -> int | None:
    """The rows of the weight of which ``module`` is one part of ``target``."""
    assert module.rows is not None
    start, stop = module.rows
    for first, last, whole in target.parts:
        unit, rest = divmod(stop - start, last - first)
        if not rest and start == first * unit:
            return whole * unit
    return None


def names_on(known: Family, naming: str, group: Group) -> tuple[Name, ...]:
    """All modules that a naming has on a group's weight, by rows; empty where it has none."""
    rows, key = height(known, group), next(iter(group)).key
    if rows is None:
        return ()
    found = []
    for target in known.on_key(naming, key):
        stem = known.spell(target, naming)
        if stem is not None and all(rows % whole == 0 for _, _, whole in target.parts):
            found.append(Name(stem, ranges(target, rows), target.transpose, target.kind))
    return tuple(found)


def ranges(target: Target, rows: int) -> Ranges:
    """The rows of a weight of ``rows`` that a target has, in its own order."""
    parts = ((first * rows // whole, last * rows // whole) for first, last, whole in target.parts)
    return tuple(parts) or ((0, rows),)


def own_names(known: Family | None, group: Group) -> tuple[Name, ...] | None:
    """The group's modules under their own names; ``None`` if one has none.

    Modules of one name are one module of the file, in the order that the family tells or,
    of an unknown one, in their own.
    """
    if not all(spec.spelling.stem for spec in group.values()):
        return None
    stems: dict[str, list[tuple[ModuleId, ModuleSpec]]] = {}
    for module, spec in group.items():
        stems.setdefault(spec.spelling.stem, []).append((module, spec))
    rows = height(known, group)
    found = []
    for stem, members in stems.items():
        target = None if known is None else known.lookup(stem)
        own = tuple(module.rows or (0, spec.shape[0]) for module, spec in members)
        if target is not None and rows is not None:
            own = ranges(target, rows)
        found.append(Name(stem, own, members[0][1].spelling.transposed))
    return tuple(found)
