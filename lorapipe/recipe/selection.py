"""``--only axis=value``: the variants of a recipe that are wanted, and the steps that are none of theirs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from lorapipe.errors import UsageError
from lorapipe.recipe.matrix import identity, near
from lorapipe.recipe.model import JSON, Recipe, Step
from lorapipe.recipe.params import Given, Setting
from lorapipe.recipe.scalars import ScalarTrouble, resolve
from lorapipe.recipe.suggest import did_you_mean

__all__ = ["Only", "chosen", "left_out", "named_steps", "narrowed", "parse_only"]

Only = Mapping[str, Given | Collection[Given]]
"""The value, or the values, that are wanted of some axes; of the others any will do."""


def parse_only(arguments: Iterable[str]) -> dict[str, tuple[Given, ...]]:
    """``--only``'s arguments as axes with values.

    >>> parse_only(["rank=4", "rank=8"])
    {'rank': (Setting(text='4'), Setting(text='8'))}
    """
    found: dict[str, tuple[Given, ...]] = {}
    for argument in arguments:
        axis, equals, text = argument.partition("=")
        if not equals or not axis.strip():
            hint = "such as --only rank=8"
            raise UsageError("bad-only", f"--only takes axis=value, not '{argument}'", hint=hint)
        found[axis.strip()] = (*found.get(axis.strip(), ()), Setting(text.strip()))
    return found


def chosen(recipe: Recipe, only: Only) -> tuple[Mapping[str, JSON], ...]:
    """The variants that have one of the values wanted on each axis.

    Raises :class:`~lorapipe.errors.UsageError`: ``unknown-axis``, ``unknown-value``, and ``no-variant``
    where the matrix has the values, but not together.
    """
    wanted = {axis: [_value(recipe, axis, one) for one in _several(given)] for axis, given in only.items()}
    marks = {axis: {identity(value) for value in values} for axis, values in wanted.items()}
    found = tuple(v for v in recipe.variants if all(identity(v[axis]) in marks[axis] for axis in marks))
    if not found and only:
        together = " and ".join(f"{axis} {_shown(values)}" for axis, values in wanted.items())
        last = next(reversed(marks))
        others = [v for v in recipe.variants if all(identity(v[a]) in marks[a] for a in marks if a != last)]
        there = _shown(dict.fromkeys(variant[last] for variant in others))
        hint = f"with the others '{last}' is {there}" if others else "the matrix leaves it out"
        raise UsageError("no-variant", f"no variant has {together}", hint=hint, where=recipe.file)
    return found


def left_out(recipe: Recipe, only: Only) -> frozenset[str]:
    """The steps that no variant of :func:`chosen` has."""
    if not only:
        return frozenset()
    variants = chosen(recipe, only)
    having: dict[tuple[str, ...], set[tuple[object, ...]]] = {}
    out = []
    for step in recipe.steps.values():
        axes = tuple(step.axes)
        if axes not in having:
            having[axes] = {tuple(identity(variant[axis]) for axis in axes) for variant in variants}
        if tuple(map(identity, step.axes.values())) not in having[axes]:
            out.append(step.id)
    return frozenset(out)


def narrowed(recipe: Recipe, only: Only) -> Recipe:
    """The recipe of the variants that are wanted alone."""
    if not only:
        return recipe
    out = left_out(recipe, only)
    steps = {name: step for name, step in recipe.steps.items() if name not in out}
    return replace(recipe, steps=MappingProxyType(steps), variants=chosen(recipe, only))


def named_steps(recipe: Recipe, name: str) -> tuple[str, ...]:
    """The steps that a name stands for: one, or the variants of one, or those of them with some values.

    ``small[rank=8]``, where ``small`` depends on ``strength`` too, are all that have rank 8.

    Raises :class:`~lorapipe.errors.UsageError` ``unknown-step``.
    """
    if name in recipe.steps:
        return (name,)
    written, bracket, labels = name.partition("[")
    wanted = set(labels.removesuffix("]").split(",")) if bracket else set()
    variants = [step for step in recipe.steps.values() if step.written == written]
    found = tuple(step.id for step in variants if wanted <= _labels(step))
    if found:
        return found
    ids = dict.fromkeys(step.written for step in recipe.steps.values())
    hint = did_you_mean(name, ids) or f"the steps are {', '.join(ids)}"
    if variants and variants[0].axes:
        more = ", ..." if len(variants) > 1 else ""
        hint = f"its variants are {variants[0].id}{more}"
    raise UsageError("unknown-step", f"the recipe has no step '{name}'", hint=hint)


def _several(given: Given | Collection[Given]) -> Collection[Given]:
    return given if isinstance(given, Collection) and not isinstance(given, str) else (given,)


def _labels(step: Step) -> set[str]:
    return set(step.id[len(step.written) + 1 : -1].split(","))


def _value(recipe: Recipe, axis: str, given: Given) -> JSON:
    """The value of an axis that is meant."""
    if axis not in recipe.matrix:
        raise _unknown_axis(recipe, axis)
    values = recipe.matrix[axis]
    read = _read(given.text) if isinstance(given, Setting) else given
    for value in values:
        if identity(value) == identity(read) or (isinstance(given, Setting) and value == given.text):
            return value
    shown = (given.text or "nothing") if isinstance(given, Setting) else _shown([read])
    hint = near(read, axis, values)
    raise UsageError("unknown-value", f"'{axis}' is never {shown}", hint=hint, where=recipe.file)


def _unknown_axis(recipe: Recipe, axis: str) -> UsageError:
    hint = did_you_mean(axis, recipe.matrix) or "the axes are " + ", ".join(recipe.matrix)
    if axis in recipe.params:
        hint = f"it is a param: --set {axis}=VALUE"
    elif not recipe.matrix:
        hint = "the recipe has no matrix: it is made once"
    return UsageError("unknown-axis", f"no axis '{axis}'", hint=hint, where=recipe.file)


def _read(text: str) -> JSON:
    try:
        return resolve(text)
    except ScalarTrouble:
        return text


def _shown(values: Iterable[object]) -> str:
    return " or ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
