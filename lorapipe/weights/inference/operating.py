"""What a merge may do with modules that are no deltas, from specs alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from lorapipe.errors import RecipeError
from lorapipe.weights.blocks import OPERATED_ELEMENTS
from lorapipe.weights.inference.binding import Binding, Bound
from lorapipe.weights.inference.cuts import NOWHERE, Cuts, coarsest, part
from lorapipe.weights.specs import AdapterSpec, Form, TensorSpec
from lorapipe.weights.strength import PROGRAMS, defined

__all__ = ["Merged", "check_operators", "cuts_of", "grown", "held"]

Merged = tuple[str, AdapterSpec, Binding]
"""A term of a merge: the name it goes by (its step), its spec, where its modules go."""


@dataclass(frozen=True, slots=True)
class _Held:
    """An operator on some rows of a file's tensor, and whose it is."""

    name: str
    bound: Bound
    form: Form
    shape: tuple[int, ...]
    start: int
    stop: int

    def meets(self, other: _Held) -> bool:
        return self.start < other.stop and other.start < self.stop


def check_operators(terms: Sequence[Merged], tensors: Mapping[str, TensorSpec], rule: str = "exact") -> None:
    """Refuse what has no one meaning: two operators on a weight, a strength that a program does not know.

    In one merge an operator sees the weight with all deltas; of two, each would have to see
    the other's result. Raises :class:`RecipeError` ``two-operators`` or ``no-strength-rule``.
    """
    by_key: dict[str, list[_Held]] = {}
    pairs = []
    for operator in _operators(terms, tensors):
        if not defined(rule, operator.form.name):
            raise _no_rule(operator, rule)
        others = by_key.setdefault(operator.bound.key, [])
        pairs += [(other, operator) for other in others if other.meets(operator)]
        others.append(operator)
    if pairs:
        raise _two(pairs)


def _operators(terms: Sequence[Merged], tensors: Mapping[str, TensorSpec]) -> Iterator[_Held]:
    for name, adapter, binding in terms:
        for bound in binding.bound:
            known = adapter.modules[bound.module]
            if known.form is not None and not known.form.additive:
                height = tensors[bound.key].shape[:1] or (1,)
                yield _Held(name, bound, known.form, known.shape, *(bound.rows or (0, *height)))


def _two(pairs: Sequence[tuple[_Held, _Held]]) -> RecipeError:
    first, second = pairs[0]
    weights = "a weight" if len(pairs) == 1 else f"{len(pairs)} weights"
    return RecipeError(
        "two-operators",
        f"'{first.name}' ({first.form.name}) and '{second.name}' ({second.form.name}) are both functions of"
        f" {weights}, and which one comes first is not said",
        module=str(second.bound.module),
        hint="merge them in two steps, one after the other",
        option="loras",
    )


def _no_rule(operator: _Held, rule: str) -> RecipeError:
    return RecipeError(
        "no-strength-rule",
        f"'{operator.name}' is {operator.form.name}, which {PROGRAMS[rule]} does not have",
        module=str(operator.bound.module),
        hint="with 'strength-rule: exact' it has its one meaning",
        option="strength-rule",
    )


def cuts_of(form: Form, bound: Bound) -> Cuts:
    """Where the rows of a bound operator may be parted, counted in the rows that it is bound to."""
    if bound.transposed:
        return NOWHERE
    return form.cuts if bound.part is None else part(form.cuts, *bound.part)


def grown(terms: Sequence[Merged], tensors: Mapping[str, TensorSpec]) -> Mapping[str, TensorSpec]:
    """The file's tensors, those that a module pads in the shape that it pads them to."""
    larger = {
        operator.bound.key: replace(tensors[operator.bound.key], shape=operator.shape)
        for operator in _operators(terms, tensors)
        if operator.form.grows
    }
    return {**tensors, **larger} if larger else tensors


def held(terms: Sequence[Merged], tensors: Mapping[str, TensorSpec]) -> int:
    """The most elements that one of the operators has to be given at once; 0 without any."""
    most = 0
    for operator in _operators(terms, tensors):
        tensor = tensors[operator.bound.key]
        rows = coarsest(cuts_of(operator.form, operator.bound), operator.stop - operator.start)
        most = max(most, rows * prod(tensor.shape[1:]), min(tensor.size, OPERATED_ELEMENTS))
    return most
