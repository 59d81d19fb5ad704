"""Steps in their variants: each once for every combination of the values that it depends on.

A step depends on the axes in its own holes and on those of every step that it takes. So what
depends on none is one step for all variants.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lorapipe.recipe.alike import alike
from lorapipe.recipe.holes import Value, check_inserted, fill, holes_in, names_in
from lorapipe.recipe.kinds import draft_step
from lorapipe.recipe.language import Language
from lorapipe.recipe.matrix import Matrix
from lorapipe.recipe.nodes import Entry, size
from lorapipe.recipe.options import Draft
from lorapipe.recipe.references import references
from lorapipe.recipe.source import Report

__all__ = [
    "MAX_STEPS",
    "MAX_VALUES",
    "Expanded",
    "Written",
    "depending",
    "draft_steps",
    "expand",
    "variant_id",
]

MAX_STEPS = 20_000
"""The most steps, each variant of one counted."""

MAX_VALUES = 240_000
"""The most scalars, lists and maps in them: ten times what a text may hold."""

_BARE = re.compile(r"[\w./$()+:@~-]+\Z")  # needs no quotes between [, = and ]

Axes = tuple[str, ...]
"""Some axes, in the order of the matrix."""

Combination = tuple[Value, ...]
"""A value on each of some axes."""


@dataclass(frozen=True, slots=True)
class Written:
    """A step of the text, its holes filled for each combination of the axes that it names itself."""

    entry: Entry
    axes: Axes
    drafts: Mapping[Combination, Sequence[Draft]]

    @property
    def id(self) -> str:
        return self.entry.name

    def draft(self, values: Mapping[str, Value]) -> Draft:
        """What it is with these values; nothing may be wrong with it."""
        (draft,) = self.drafts[tuple(values[axis] for axis in self.axes)]
        return draft


@dataclass(frozen=True, slots=True)
class Expanded:
    """A step in one variant; ``inputs`` maps the ids that it takes to those of that variant."""

    id: str
    draft: Draft
    axes: Mapping[str, Value]
    inputs: Mapping[str, str]


def draft_steps(
    entries: Sequence[Entry], names: Mapping[str, Value], matrix: Matrix, language: Language, report: Report
) -> list[Written]:
    """The steps of a recipe, read with every value of the axes in their holes.

    ``names`` are all that a hole may name. What is wrong with several values is noted once.
    """
    ids = dict.fromkeys(entry.name for entry in entries)
    own = {entry.name: matrix.ordered(names_in(entry.value)) for entry in entries}
    _bound(entries, own, matrix, report)
    filled = (
        (entry.value, _named(names, own[entry.name], combination))
        for entry in entries
        for combination in matrix.combinations(own[entry.name])
    )
    check_inserted(filled, report)
    found = []
    for entry in entries:
        if holes_in(entry.name):
            report.add("hole-in-key", f"a key takes no $(name): '{entry.name}'", entry.key.span)
        axes = own[entry.name]
        drafts: dict[Combination, list[Draft]] = {}
        parts = []
        for combination in matrix.combinations(axes):
            parts.append(Report(report.source))
            value = fill(entry.value, _named(names, axes, combination), parts[-1])
            drafts[combination] = draft_step(Entry(entry.key, value), language, ids, parts[-1])
        for error in alike(part.errors for part in parts):
            report.add_error(error)
        found.append(Written(entry, axes, drafts))
    return found


def _named(names: Mapping[str, Value], axes: Axes, combination: Combination) -> Mapping[str, Value]:
    return {**names, **dict(zip(axes, combination, strict=True))} if axes else names


def _bound(entries: Iterable[Entry], axes: Mapping[str, Axes], matrix: Matrix, report: Report) -> None:
    """Refuse a matrix that makes more of a recipe than anyone has use for."""
    counts = [(entry, len(matrix.combinations(axes[entry.name]))) for entry in entries]
    steps = sum(count for _, count in counts)
    values = sum(count * size(entry.value) for entry, count in counts if count > 1)
    if steps > MAX_STEPS or values > MAX_VALUES:
        much = (
            f"{steps} steps: at most {MAX_STEPS}"
            if steps > MAX_STEPS
            else f"{values} values: at most {MAX_VALUES}"
        )
        hint = "name fewer values, or write several recipes"
        report.fatal("too-many-steps", f"the matrix makes {much} are taken", matrix.span, hint)


def depending(written: Iterable[Written], matrix: Matrix) -> dict[str, Axes]:
    """The axes that each step depends on, by its id in the text; circles do no harm."""
    users: dict[str, set[str]] = {}
    named: dict[str, set[str]] = {}
    for step in written:
        named[step.id] = set(step.axes)
        for draft in (draft for drafts in step.drafts.values() for draft in drafts):
            for reference in references(draft):
                users.setdefault(reference.step.text, set()).add(step.id)
    for axis in matrix.axes:
        pending = [step for step, axes in named.items() if axis in axes]
        while pending:
            for user in users.get(pending.pop(), ()):
                if axis not in named[user]:
                    named[user].add(axis)
                    pending.append(user)
    return {step: matrix.ordered(axes) for step, axes in named.items()}


def expand(
    written: Sequence[Written], axes: Mapping[str, Axes], matrix: Matrix, report: Report
) -> list[Expanded]:
    """Every step in each of its variants, the steps of a variant together.

    ``axes`` are what :func:`depending` found; nothing may be wrong with the steps.
    """
    _bound([step.entry for step in written], axes, matrix, report)
    made: list[tuple[int, Expanded]] = []
    for step in written:
        for combination, first in matrix.combinations(axes[step.id]).items():
            values = dict(zip(axes[step.id], combination, strict=True))
            draft = step.draft(values)
            taken = dict.fromkeys(reference.step.text for reference in references(draft))
            inputs = {one: variant_id(one, {axis: values[axis] for axis in axes[one]}) for one in taken}
            made.append((first, Expanded(variant_id(step.id, values), draft, values, inputs)))
    return [step for _, step in sorted(made, key=lambda one: one[0])]


def variant_id(step: str, values: Mapping[str, Value]) -> str:
    """A step's id in a variant, the values as they are written.

    >>> variant_id("small", {"rank": Value(8, "8"), "mode": Value("a b", "a b")})
    'small[rank=8,mode="a b"]'
    """
    said = ",".join(f"{axis}={_label(value)}" for axis, value in values.items())
    return f"{step}[{said}]" if said else step


def _label(value: Value) -> str:
    if _BARE.match(value.text):
        return value.text
    return json.dumps(value.text, ensure_ascii=not value.text.isprintable())
