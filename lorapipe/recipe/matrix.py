"""``matrix``: the axes of a recipe, and the combinations of their values that it is made for.

    matrix:
      strength: [0.4, 0.8]
      rank: [4, 8, 16]
      exclude: [{strength: 0.4, rank: 16}]
      include: [{strength: 1.2, rank: 64}]

Every value of one axis goes with every value of the others. ``exclude`` takes away the
combinations that have the values it names, ``include`` adds one that has a value on every axis.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import product
from operator import and_
from types import MappingProxyType
from typing import TypeGuard

from lorapipe.recipe.holes import UNKNOWN, Value
from lorapipe.recipe.nodes import Entry, ListNode, MapNode, Node, Scalar
from lorapipe.recipe.source import Report, Span
from lorapipe.recipe.suggest import did_you_mean

__all__ = ["MAX_AXES", "MAX_VARIANTS", "Matrix", "Variant", "axes_of", "identity", "near", "read_matrix"]

MAX_VARIANTS = 4096
"""The most combinations, those that ``exclude`` takes away among them."""

MAX_AXES = 10
"""The most axes: each may be part of the id of a step."""

_RULES = ("exclude", "include")
_LONGEST = 255  # characters of a value, which is part of ids: as many as a file's name may have
_FEW = 6  # values that a hint lists

_NOWHERE = Span(0, 0, 0, 1)

Variant = Mapping[str, Value]
"""A value on each axis."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Axes with the values that occur on them, and the variants, all in order.

    Without axes there is one variant with nothing in it. ``span`` is where the matrix begins,
    ``spans`` are where the axes' names stand.
    """

    axes: Mapping[str, tuple[Value, ...]] = field(default_factory=lambda: MappingProxyType({}))
    variants: tuple[Variant, ...] = (MappingProxyType({}),)
    span: Span = _NOWHERE
    spans: Mapping[str, Span] = field(default_factory=lambda: MappingProxyType({}))
    _found: dict[tuple[str, ...], dict[tuple[Value, ...], int]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def ordered(self, names: Iterable[str]) -> tuple[str, ...]:
        """The axes among ``names``, in their order."""
        named = set(names)
        return tuple(axis for axis in self.axes if axis in named)

    def combinations(self, axes: tuple[str, ...]) -> Mapping[tuple[Value, ...], int]:
        """What values these axes have together, each with the number of the first variant that has them."""
        if axes not in self._found:
            found = self._found.setdefault(axes, {})
            for number, variant in enumerate(self.variants if axes else self.variants[:1]):
                found.setdefault(tuple(variant[axis] for axis in axes), number)
        return self._found[axes]


def axes_of(root: Node) -> dict[str, Entry]:
    """The axes that a recipe names, with what stands there."""
    matrix = root.get("matrix") if isinstance(root, MapNode) else None
    entries = matrix.entries if isinstance(matrix, MapNode) else ()
    return {entry.name: entry for entry in entries if entry.name not in _RULES}


def read_matrix(root: Node, params: Collection[str], report: Report) -> Matrix:
    """The matrix of a recipe whose holes are filled; ``params`` are names that no axis may have.

    Noted in ``report`` is what the recipe's schema cannot say; what that refuses is passed over, and
    of an axis of which no value is known the value is unknown.
    """
    found = [one for one in root.entries if one.name == "matrix"] if isinstance(root, MapNode) else []
    if not found or not isinstance(found[0].value, MapNode):
        return Matrix()
    key, matrix, entries = found[0].key, found[0].value, axes_of(root)
    if not entries:
        if matrix.entries:  # else the schema's check has said it
            report.add("no-axes", "a matrix needs an axis", key.span, "such as strength: [0.5, 1.0]")
        return Matrix()
    spans = MappingProxyType({name: entry.key.span for name, entry in entries.items()})
    nothing = Matrix(dict.fromkeys(spans, (UNKNOWN,)), (dict.fromkeys(spans, UNKNOWN),), key.span, spans)
    if len(entries) > MAX_AXES:
        message = f"a matrix has at most {MAX_AXES} axes, not {len(entries)}"
        report.add("too-many-axes", message, key.span, "what goes together is one axis")
        return nothing
    axes = {name: _axis(entry, params, report) for name, entry in entries.items()}
    count = math.prod(map(len, axes.values()))
    if count > MAX_VARIANTS:
        message = f"the matrix has {count} combinations: at most {MAX_VARIANTS} are taken"
        report.add("too-many-variants", message, key.span, "name fewer values, or write several recipes")
        return nothing
    variants = _without(axes, _rules(matrix, "exclude", axes, report), report)
    variants += _further(axes, variants, _rules(matrix, "include", axes, report), report)
    if not variants:
        report.add("matrix-empty", "'exclude' leaves no combination", key.span, "exclude fewer")
        return nothing
    return Matrix(_occurring(axes, variants), tuple(variants), key.span, spans)


def identity(value: object) -> tuple[bool, object]:
    """What values have in common that are one: 4 and 4.0, but not 1 and true."""
    return isinstance(value, bool), value


def near(value: object, axis: str, values: Sequence[object]) -> str:
    """A hint for a value that an axis has not: the nearest of those that it has."""
    if isinstance(value, str):
        meant = did_you_mean(value, [one for one in values if isinstance(one, str)])
        if meant is not None:
            return meant
    if _is_number(value):
        values = sorted(values, key=lambda one: abs(one - value) if _is_number(one) else math.inf)
    shown = ", ".join(str(one).lower() if isinstance(one, bool) else str(one) for one in values[:_FEW])
    return f"'{axis}' has {shown}" + (", ..." if len(values) > _FEW else "")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _axis(entry: Entry, params: Collection[str], report: Report) -> tuple[Value, ...]:
    """The values of one axis, each once."""
    if entry.name in params:
        hint = "give one of the two another name"
        report.add("axis-is-param", f"'{entry.name}' is a param and an axis", entry.key.span, hint)
    known: set[object] = set()
    values: list[Value] = []
    for item in entry.value.items if isinstance(entry.value, ListNode) else ():
        value = _value(item, report)
        if value is None:
            continue
        if not known.isdisjoint(_marks(value)):
            how = "" if identity(value.value) in known else ", as text and as something else"
            report.add("value-twice", f"'{entry.name}' has {value.text} twice{how}", item.span, "delete one")
        else:
            values.append(value)
            known.update(_marks(value))
    return tuple(values) or (UNKNOWN,)


def _marks(value: Value) -> tuple[object, object]:
    """What no two values of an axis share: in an id and in a file's name the text 8 is the number 8."""
    return identity(value.value), value.text


def _value(node: Node, report: Report) -> Value | None:
    """The value of a scalar; None for what the schema refuses, and for what is not known."""
    if not isinstance(node, Scalar) or node.unknown or node.value is None:
        return None
    if isinstance(node.value, float) and not math.isfinite(node.value):
        return None
    if len(node.text) > _LONGEST:
        message = f"a value on an axis has at most {_LONGEST} characters, not {len(node.text)}"
        report.add("value-too-long", message, node.span, "steps can say the part that all values share")
        return None
    # -0.0 is 0.0, as it is for params.
    return Value(node.value + 0.0 if isinstance(node.value, float) else node.value, node.text)


_Axes = Mapping[str, tuple[Value, ...]]
_Rules = Iterable[tuple[MapNode, dict[str, Value]]]


def _rules(matrix: MapNode, name: str, axes: _Axes, report: Report) -> _Rules:
    """The maps of ``exclude`` or ``include``, those of which everything is known."""
    rules = matrix.get(name)
    known = {axis: {mark: value for value in axes[axis] for mark in _marks(value)} for axis in axes}
    for node in rules.items if isinstance(rules, ListNode) else ():
        rule: dict[str, Value] = {}
        entries = node.entries if isinstance(node, MapNode) else ()
        for entry in entries:
            value = _value(entry.value, report)
            if entry.name not in axes:
                hint = did_you_mean(entry.name, axes) or f"the axes are {', '.join(axes)}"
                report.add("unknown-axis", f"no axis '{entry.name}'", entry.key.span, hint)
            elif value is not None and UNKNOWN not in axes[entry.name]:
                for mark in _marks(value):
                    value = known[entry.name].setdefault(mark, value)
                rule[entry.name] = value
        if isinstance(node, MapNode) and entries and len(rule) == len(entries):
            yield node, rule


def _without(axes: _Axes, rules: _Rules, report: Report) -> list[Variant]:
    """All combinations but those that a rule excludes."""
    variants = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    having = {axis: dict.fromkeys(values, 0) for axis, values in axes.items()}
    for number, variant in enumerate(variants):
        for axis, value in variant.items():
            having[axis][value] |= 1 << number  # a set of variants: a bit for each
    excluded = 0
    for node, rule in rules:
        strange = {axis: value for axis, value in rule.items() if value not in having[axis]}
        for axis, value in strange.items():
            hint = near(value.value, axis, [one.value for one in axes[axis]])
            span = next(entry.value.span for entry in node.entries if entry.name == axis)
            report.add("excludes-nothing", f"'{axis}' is never {value.shown}", span, hint)
        if not strange:
            excluded |= reduce(and_, (having[axis][value] for axis, value in rule.items()))
    return [variant for number, variant in enumerate(variants) if not excluded >> number & 1]


def _further(axes: _Axes, variants: Iterable[Variant], rules: _Rules, report: Report) -> list[Variant]:
    """The combinations that rules include."""
    there = {tuple(variant[axis] for axis in axes) for variant in variants}
    further: list[Variant] = []
    for node, rule in rules:
        missing = [axis for axis in axes if axis not in rule]
        if missing:
            message = f"'include' lacks {' and '.join(missing)}"
            report.add("include-lacks", message, node.span, "it gives a value on every axis")
            continue
        values = tuple(rule[axis] for axis in axes)
        if values in there:
            report.add("included-twice", "the matrix has this combination already", node.span, "delete it")
        there.add(values)
        further.append({axis: rule[axis] for axis in axes})
    return further


def _occurring(axes: _Axes, variants: Collection[Variant]) -> _Axes:
    """The values that the variants have, in the order of the axes, then of what is included."""
    found = {axis: {variant[axis] for variant in variants} for axis in axes}
    order = {axis: dict.fromkeys([*axes[axis], *(one[axis] for one in variants)]) for axis in axes}
    return MappingProxyType({axis: tuple(v for v in order[axis] if v in found[axis]) for axis in axes})
