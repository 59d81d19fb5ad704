"""An architecture's table: templates with ranges, expanded into its modules.

The language of the tables is described at the head of ``tables/parts/ldm.yaml``.
A table is package data, so that a fault in it is an internal one
(:class:`~lorapipe.errors.LorapipeError`, code ``architecture-table``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import yaml

from lorapipe.architectures.target import Target
from lorapipe.errors import LorapipeError

__all__ = ["Component", "Features", "Module", "Naming", "Table", "Walk", "bad_table", "parse_table"]

# A pure-Python yaml still works, ten times slower.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_HOLE = re.compile(r"\{([^{}]+)\}")
_KINDS = frozenset({"linear", "conv1x1", "conv3x3"})

Features = tuple[int | None, int | None]
"""Output and input features in the published models, ``None`` where nothing is claimed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How one kind of file spells a component's modules.

    The name is ``prefix`` and the module's diffusers path (``spells: path``) or its
    checkpoint key (``spells: key``), with ``separator`` for each dot and the level
    ``without`` left out.
    """

    prefix: str
    separator: str = "."
    spells: str = "path"
    without: str = ""

    def spell(self, module: Module) -> str:
        name = module.path if self.spells == "path" else module.stem
        if self.without:
            name = name.removeprefix(self.without)
        return self.prefix + (name if self.separator == "." else name.replace(".", self.separator))


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One model of the family: the group a recipe weighs it by, and its spellings.

    ``namings`` give each module one canonical name each; names by ``also`` are
    understood and never written.
    """

    name: str
    group: str
    prefix: str
    namings: Mapping[str, Naming]
    also: tuple[Naming, ...] = ()


@dataclass(frozen=True, slots=True)
class Module:
    """A target with its diffusers ``path``, its key's ``stem`` inside the component, and its size."""

    target: Target
    path: str
    stem: str
    features: Features


@dataclass(frozen=True, slots=True)
class Walk:
    """The order in which ``named_modules`` meets a model's layers, and where classes stand."""

    order: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]

    def place(self, module: Module) -> tuple[tuple[int, str], ...]:
        """Sorts modules as the walk meets them; numbered siblings stand in their own order."""
        return tuple(
            (int(s), "") if s.isdigit() else (self.order.index(s), "") if s in self.order else (0, s)
            for s in module.path.split(".")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A whole table, expanded."""

    name: str
    title: str
    source: str
    aliases: tuple[str, ...]
    components: Mapping[str, Component]
    modules: tuple[Module, ...]
    positions: Mapping[str, tuple[str, Walk]]
    metadata: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    path: str = ""
    key: str | None = None
    kind: str | None = None
    rows: tuple[int, int, int] | None = None
    transpose: bool = False
    features: tuple[str | None, str | None] = (None, None)
    each: Mapping[str, str] = field(default_factory=dict)
    along: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)
    part: str | None = None
    modules: tuple[_Row, ...] = ()


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where expansion stands: the path and key so far, and the variables."""

    path: str
    key: str
    values: Mapping[str, int]


def bad_table(name: str, problem: str) -> LorapipeError:
    """The error of a table that contradicts itself."""
    return LorapipeError("architecture-table", f"the table of {name} is wrong: {problem}")


def parse_table(name: str, text: str, shared: Mapping[str, str] | None = None) -> Table:
    """Read the YAML of the table ``name``; ``shared`` holds the YAML of what it includes."""
    try:
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506  # a safe loader, in C where there is one
        included = [yaml.load((shared or {})[part], Loader=_Loader) for part in raw.get("include", ())]  # noqa: S506  # as above
        return _build(name, raw, included)
    except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise bad_table(name, f"{type(error).__name__}: {error}") from error


def _build(name: str, raw: Mapping[str, Any], included: list[Mapping[str, Any]]) -> Table:
    parts: dict[str, tuple[_Row, ...]] = {}
    walks: dict[str, Walk] = {}
    for source in (*included, raw):
        parts |= {part: _rows(rows) for part, rows in source.get("parts", {}).items()}
        walks |= {walk: _walk(w) for walk, w in source.get("walks", {}).items()}
    components = {n: _component(n, c) for n, c in raw["components"].items()}
    modules = [
        module
        for n, c in raw["components"].items()
        for row in _rows(c["modules"])
        for module in _expand(row, _Scope("", "", c.get("sizes", {})), components[n], parts)
    ]
    return Table(
        name=name,
        title=raw["title"],
        source=raw["source"],
        aliases=tuple(raw.get("aliases", ())),
        components=components,
        modules=tuple(modules),
        positions={m: (p["component"], walks[p["walk"]]) for m, p in raw.get("positions", {}).items()},
        metadata={key: tuple(patterns) for key, patterns in raw.get("metadata", {}).items()},
    )


def _component(name: str, raw: Mapping[str, Any]) -> Component:
    return Component(
        name=name,
        group=raw["group"],
        prefix=raw["key"] + ".",
        namings={n: Naming(**fields) for n, fields in raw["namings"].items()},
        also=tuple(Naming(**fields) for fields in raw.get("also", ())),
    )


def _walk(raw: Mapping[str, Any]) -> Walk:
    return Walk(tuple(raw["order"]), {c: tuple(where) for c, where in raw["classes"].items()})


def _rows(raw: list[dict[str, Any]]) -> tuple[_Row, ...]:
    return tuple(_row(**fields) for fields in raw)


def _row(**fields: Any) -> _Row:
    """A row with its types; an unknown field is a TypeError of the dataclass."""
    if "modules" in fields:
        fields["modules"] = _rows(fields["modules"])
    if "rows" in fields:
        fields["rows"] = tuple(fields["rows"])
    if "features" in fields:
        fields["features"] = tuple(None if f is None else str(f) for f in fields["features"])
    row = _Row(**fields)
    if [row.kind is None, row.part is None, not row.modules].count(False) != 1:
        raise ValueError(f"row {row.path!r} needs one of kind, part, modules")
    if row.kind is not None and row.kind not in _KINDS:
        raise ValueError(f"row {row.path!r} has the unknown kind {row.kind!r}")
    return row


def _expand(
    row: _Row, scope: _Scope, component: Component, parts: Mapping[str, tuple[_Row, ...]]
) -> Iterator[Module]:
    for values in _bindings(row, scope.values):
        inner = _Scope(
            _join(scope.path, _fill(row.path, values)),
            _join(scope.key, _fill(_key(row), values)),
            values,
        )
        if row.kind is not None:
            yield _module(row, row.kind, inner, component)
        for child in parts[row.part] if row.part is not None else row.modules:
            yield from _expand(child, inner, component, parts)


def _key(row: _Row) -> str:
    if row.key is not None:
        return row.key
    return row.path if row.kind is None else f"{row.path}.weight"


def _module(row: _Row, kind: str, scope: _Scope, component: Component) -> Module:
    target = Target(component.name, component.prefix + scope.key, row.rows, row.transpose, kind)
    out, columns = (None if f is None else _evaluate(f, scope.values) for f in row.features)
    return Module(target, scope.path, scope.key.removesuffix(".weight"), (out, columns))


def _bindings(row: _Row, outer: Mapping[str, int]) -> Iterator[Mapping[str, int]]:
    """The variables of each repetition that ``where`` keeps."""
    ranges = [_range(text, outer) for text in row.each.values()]
    if row.along and [len(r) for r in ranges] != [len(v) for v in row.along.values()][:1]:
        raise ValueError(f"row {row.path!r}: `along` needs one variable in `each`, and as many values")
    for turn, numbers in enumerate(product(*ranges)):
        values = {**outer, **dict(zip(row.each, numbers, strict=True))}
        values |= {name: along[turn] for name, along in row.along.items()}
        if all(values[name] in _range(text, values) for name, text in row.where.items()):
            yield values


def _range(text: str | int, values: Mapping[str, int]) -> range:
    """``0..3`` is 0, 1, 2, 3; a number is itself."""
    first, _, last = str(text).partition("..")
    return range(_evaluate(first, values), _evaluate(last or first, values) + 1)


def _fill(template: str, values: Mapping[str, int]) -> str:
    if "{" not in template:
        return template
    return _HOLE.sub(lambda hole: str(_evaluate(hole[1], values)), template)


def _evaluate(expression: str, values: Mapping[str, int]) -> int:
    """A sum of products of numbers and variables, such as ``3*i+j+1``."""
    if expression in values:
        return values[expression]
    total = 0
    for term in expression.split("+"):
        value = 1
        for factor in term.split("*"):
            value *= int(factor) if factor.isdigit() else values[factor]
        total += value
    return total


def _join(left: str, right: str) -> str:
    return f"{left}.{right}" if left and right else left or right
