"""A component's rows written out: every module's name on one side, and what it is.

The names of a side (``path``, ``key``, ...) are made when somebody asks for that side;
each list has one entry per module, in the order of the rows. A part that comes again
with the same variables (the blocks of a model) is written out once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import product

from lorapipe.architectures.table import Component, Row, Table, bad_table
from lorapipe.architectures.target import Part

__all__ = ["Expansion", "Features", "Leaf"]

Features = tuple[int | None, int | None]
"""Output and input features in the published models, ``None`` where nothing is claimed."""

_HOLE = re.compile(r"\{([^{}]+)\}")
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """What a module is, wherever it stands. ``only`` and ``sides`` say which sides have it."""

    kind: str
    parts: tuple[Part, ...]
    transpose: bool
    features: Features
    only: str | None
    sides: frozenset[str]


class Expansion:
    """The modules of one component. Names are kept once made; nothing else changes."""

    __slots__ = ("_component", "_free", "_leaves", "_names", "_part_leaves", "_part_names", "_table")

    def __init__(self, table: Table, component: Component) -> None:
        self._table = table
        self._component = component
        self._names: dict[str, tuple[str, ...]] = {}
        self._leaves: tuple[Leaf, ...] | None = None
        self._free: dict[str, tuple[str, ...]] = {}
        self._part_names: dict[tuple[object, ...], list[str]] = {}
        self._part_leaves: dict[tuple[object, ...], list[Leaf]] = {}

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """What each module is."""
        if self._leaves is None:
            with self._faults():
                self._leaves = tuple(self._all_leaves(self._component.rows, self._component.sizes, None))
        return self._leaves

    def names(self, side: str) -> tuple[str, ...]:
        """Each module's name on a side, those that the side does not have included.

        On the side ``key`` a name is a tensor's, on every other side a module's.
        """
        if side not in self._names:
            rows, sizes = self._component.rows, self._component.sizes
            with self._faults():
                self._names[side] = tuple(self._all_names(rows, sizes, side, None))
        return self._names[side]

    def stems(self, side: str) -> tuple[str, ...]:
        """Each module's name on a side, without a tensor's ``.weight`` or a norm's ``.scale``."""
        return tuple(map(_stem, self.names(side), self.leaves))

    def tensors(self, side: str) -> tuple[str, ...]:
        """Each module's tensor on a side: ``.weight`` behind the module's name."""
        names = self.names(side)
        if side == "key":
            return names
        return tuple(
            name if leaf.kind == "parameter" or _is_scale(name, leaf) else f"{name}.weight"
            for name, leaf in zip(names, self.leaves, strict=True)
        )

    def on(self, side: str) -> tuple[bool, ...]:
        """Whether each module is on a side: ``only`` keeps some off, an own name there brings them back."""
        base = side
        while base in self._table.sides:
            base = self._table.sides[base]
        return tuple(leaf.only in (None, base) or side in leaf.sides for leaf in self.leaves)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """A variable, part or side that is not there is a fault of the table."""
        try:
            yield
        except (KeyError, ValueError) as error:
            raise bad_table(self._table.head.name, f"{type(error).__name__}: {error}") from error

    def _all_names(
        self, rows: tuple[Row, ...], outer: Mapping[str, int], side: str, only: str | None
    ) -> Iterator[str]:
        for row, here in _allowed(rows, only):
            template = self._template(row, side)
            for values in _bindings(row, outer):
                head = _fill(template, values)
                if row.kind is not None:
                    yield head
                    continue
                for name in self._names_in(row, values, side, here):
                    yield f"{head}.{name}" if head and name else head or name

    def _all_leaves(
        self, rows: tuple[Row, ...], outer: Mapping[str, int], only: str | None
    ) -> Iterator[Leaf]:
        for row, here in _allowed(rows, only):
            for values in _bindings(row, outer):
                if row.kind is not None:
                    yield _leaf(row, row.kind, values, here)
                else:
                    yield from self._leaves_in(row, values, here)

    def _names_in(self, row: Row, values: Mapping[str, int], side: str, only: str | None) -> Iterable[str]:
        if row.part is None:
            return self._all_names(row.modules, values, side, only)
        key = (row.part, side, only, *self._bound(row.part, values))
        if key not in self._part_names:
            self._part_names[key] = list(self._all_names(self._table.parts[row.part], values, side, only))
        return self._part_names[key]

    def _leaves_in(self, row: Row, values: Mapping[str, int], only: str | None) -> Iterable[Leaf]:
        if row.part is None:
            return self._all_leaves(row.modules, values, only)
        key = (row.part, only, *self._bound(row.part, values))
        if key not in self._part_leaves:
            self._part_leaves[key] = list(self._all_leaves(self._table.parts[row.part], values, only))
        return self._part_leaves[key]

    def _bound(self, part: str, values: Mapping[str, int]) -> tuple[int | None, ...]:
        """The values of the variables that a part reads: with equal ones it comes out equal."""
        if part not in self._free:
            self._free[part] = tuple(sorted(self._reads(self._table.parts[part])))
        return tuple(values.get(name) for name in self._free[part])

    def _reads(self, rows: tuple[Row, ...]) -> set[str]:
        found: set[str] = set()
        for row in rows:
            inner = self._table.parts[row.part] if row.part is not None else row.modules
            templates = (row.path, row.key or "", *row.names.values())
            texts = [hole for text in templates for hole in _HOLE.findall(text)]
            texts += [text for text in row.features if text is not None]
            texts += [str(text) for text in (*row.each.values(), *row.where.values(), *row.where)]
            names = {name for text in texts for name in _NAME.findall(text)} | self._reads(inner)
            found |= names - row.each.keys() - row.along.keys()
        return found

    def _template(self, row: Row, side: str) -> str:
        """The row's name on a side, with the holes for variables."""
        if side in row.names:
            return row.names[side]
        if side in self._table.sides:
            template = self._template(row, self._table.sides[side])
            return template.removesuffix(".weight") if row.kind is not None else template
        if side == "path":
            return row.path
        if side != "key":
            raise KeyError(side)
        if row.key is not None:
            return row.key
        return row.path if row.kind in (None, "parameter") else f"{row.path}.weight"


def _allowed(rows: tuple[Row, ...], only: str | None) -> Iterator[tuple[Row, str | None]]:
    """The rows, each with the one side it is on; on two sides at once is on none."""
    for row in rows:
        if only is None or row.only in (None, only):
            yield row, only or row.only


def _leaf(row: Row, kind: str, values: Mapping[str, int], only: str | None) -> Leaf:
    out, columns = (None if f is None else _evaluate(f, values) for f in row.features)
    return Leaf(kind, row.rows, row.transpose, (out, columns), only, frozenset(row.names))


def _stem(name: str, leaf: Leaf) -> str:
    return name.removesuffix(".scale" if _is_scale(name, leaf) else ".weight")


def _is_scale(name: str, leaf: Leaf) -> bool:
    """Whether a norm calls its weight ``scale``."""
    return leaf.kind == "norm" and name.endswith(".scale")


def _bindings(row: Row, outer: Mapping[str, int]) -> Iterator[Mapping[str, int]]:
    """The variables of each repetition that ``where`` keeps."""
    if not (row.each or row.along or row.where):
        yield outer
        return
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
    total = 0
    for number, names in _terms(expression):
        value = number
        for name in names:
            value *= values[name]
        total += value
    return total


@cache
def _terms(expression: str) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """The products of an expression, numbers multiplied out: ``3*i+1`` is 3 of ``i`` and 1 of nothing."""
    found = []
    for term in expression.split("+"):
        number, names = 1, []
        for factor in term.split("*"):
            if factor.isdigit():
                number *= int(factor)
            else:
                names.append(factor)
        found.append((number, tuple(names)))
    return tuple(found)
