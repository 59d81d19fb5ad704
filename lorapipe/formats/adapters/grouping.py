"""Which tensors of an adapter's file belong together, whatever their spelling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from lorapipe.formats.adapters.dialects import ALPHA, BUNDLED, SCALE, Named, forms, plain_stem, read_name
from lorapipe.formats.forms.embedding import EMBEDDED_UP
from lorapipe.formats.forms.form import AdapterForm
from lorapipe.formats.forms.lora import DOWN, UP
from lorapipe.formats.problems import Problems

__all__ = ["Group", "Grouped", "form_of", "group_tensors"]

_UPS = (UP, EMBEDDED_UP)


@dataclass(slots=True)
class Group:
    """The tensors of one module: names by role.

    ``stem`` is what the first of them calls the module, ``path`` what is looked up. ``up``
    is the suffix of that factor, where there is one.
    """

    stem: str
    path: str
    tensors: dict[str, str] = field(default_factory=dict)
    up: str | None = None

    @property
    def roles(self) -> frozenset[str]:
        """The roles that make a format; strength is a matter of every one."""
        return frozenset(self.tensors.keys() - {ALPHA, SCALE})


@dataclass(frozen=True, slots=True)
class Grouped:
    """The groups of a file in the order of their first tensors, and the tensors of none."""

    groups: Mapping[str, Group]
    rest: tuple[str, ...]


def group_tensors(names: Iterable[str], problems: Problems) -> Grouped:
    """Sort a file's tensors by module; one role that two tensors have is a problem."""
    groups: dict[str, Group] = {}
    general: dict[str, list[tuple[str, Named]]] = {}
    rest: list[str] = []
    for name in names:
        named = None if name.startswith(BUNDLED) else read_name(name)
        if named is None:
            rest.append(name)
            continue
        path = plain_stem(named.stem)
        if named.sure:
            _add(groups, path, name, named, problems)
        else:
            general.setdefault(path, []).append((name, named))
    for path, found in general.items():
        if _belongs(groups.get(path), {named.role for _, named in found}):
            for name, named in found:
                _add(groups, path, name, named, problems)
        else:
            rest.extend(name for name, _ in found)
    return Grouped(groups, tuple(rest))


def _add(groups: dict[str, Group], path: str, name: str, named: Named, problems: Problems) -> None:
    group = groups.get(path)
    if group is None:
        group = groups[path] = Group(named.stem, path)
    before = group.tensors.setdefault(named.role, name)
    if before != name:
        problems.add("module-twice", f"{before} and {name}")
    if named.role in _UPS:
        group.up = named.suffix


def _belongs(group: Group | None, roles: set[str]) -> bool:
    """Whether tensors whose names tell little are of the module that they stand beside, or make one."""
    if group is None:
        return {UP, DOWN} <= roles
    return form_of(group.roles | (roles - {SCALE})) is not None


@cache
def form_of(roles: frozenset[str]) -> AdapterForm | None:
    """The first format that has all of these roles, and of which none is missing."""
    fitting = (form for form in forms() if form.needed <= roles <= form.roles.keys())
    return next(fitting, None) if roles else None
