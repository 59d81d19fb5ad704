"""Two recipes held against each other by what they mean: steps, options, inputs, outputs.

Comments, layout, the order of steps and their ids, params and the way in which a value came to
be are no part of that. Nothing need exist for it: an input whose sha256 is not known is told by
the name that the recipe gives it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from lorapipe.plan.differences import UNSET, arrow, same
from lorapipe.plan.explain import walk
from lorapipe.plan.graph import order, step_graph
from lorapipe.plan.lineage import Lineage, Source
from lorapipe.recipe.model import JSON, Recipe, Step
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Materialise

__all__ = ["RecipeDiff", "diff_recipes"]

_SETTINGS = ("device", "compute")
"""Defaults that are no option of any step."""

_UNKNOWN = "unknown: "
"""Stands before a name in the place of a sha256."""

Digest = Callable[[Recipe, Step], "str | None"]


@dataclass(frozen=True, slots=True)
class RecipeDiff:
    """What a recipe means otherwise than an older one, in words, old -> new.

    ``steps`` are the newer recipe's by id, of what changes the result; ``quiet`` of what changes no byte
    of it (where a file lies or goes, what a merge refuses). ``added`` and ``removed`` are the ends of
    a recipe, what it writes or checks, that only one has; ``ends`` maps each of the newer one's others
    to the id that it has in the older one.
    """

    settings: tuple[str, ...] = ()
    steps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    quiet: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    ends: Mapping[str, str] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether anything but the text is another."""
        return bool(self.settings or self.steps or self.quiet or self.added or self.removed)


def diff_recipes(old: Recipe, new: Recipe, digest: Digest) -> RecipeDiff:
    """Compare two recipes; ``digest`` gives the sha256 of the file that a step loads, if it is known.

    An input that both call by one name, and of which a digest is missing, counts as the same.
    """
    known = _Inputs(old, new, digest)
    before, after = _lineages(old, known), _lineages(new, known)
    pairs = _paired(old, new, before, after)
    former = set(pairs.values())
    steps, quiet = _walked(old, new, before, after, pairs)
    return RecipeDiff(
        settings=tuple(_settings(old, new)),
        steps={name: steps[name] for name in new.steps if name in steps},
        quiet={name: quiet[name] for name in new.steps if name in quiet},
        added=tuple(name for name in _ends(new) if name not in pairs),
        removed=tuple(name for name in _ends(old) if name not in former),
        ends=pairs,
    )


Words = dict[str, tuple[str, ...]]


def _walked(
    old: Recipe,
    new: Recipe,
    before: Mapping[str, Lineage],
    after: Mapping[str, Lineage],
    pairs: Mapping[str, str],
) -> tuple[Words, Words]:
    """What differs from the ends up to the inputs: in the result, and in what changes no byte."""
    names = {lineage.digest: name for name, lineage in reversed(tuple(after.items()))}
    former = {lineage.digest: name for name, lineage in reversed(tuple(before.items()))}
    steps: Words = {}
    quiet: Words = {}
    for name, was in pairs.items():
        words, matched = walk(after[name], before[was], names)
        for step, told in words.items():
            # Of two names one is known to be another already.
            steps.setdefault(step, tuple(word for word in told if _UNKNOWN not in word))
        twins = {names[now]: former[then.digest] for now, then in matched.items()} | {name: was}
        for step, other in twins.items():
            other_words = tuple(_quietly(old.steps[other], new.steps[step]))
            if other_words and not ("load" in new.steps[step].params and step in steps):
                quiet.setdefault(step, other_words)
    return steps, quiet


def _settings(old: Recipe, new: Recipe) -> Iterator[str]:
    for name in _SETTINGS:
        was, now = old.defaults.get(name, UNSET), new.defaults.get(name, UNSET)
        if was != now:
            yield arrow(name, was, now)


class _Inputs:
    """What stands for each input: its sha256, or the name by which both recipes call it."""

    def __init__(self, old: Recipe, new: Recipe, digest: Digest) -> None:
        self._digest = digest
        unknown = [
            str(step.params["load"])
            for recipe in (old, new)
            for step in recipe.steps.values()
            if "load" in step.params and digest(recipe, step) is None
        ]
        self._by_name = set(unknown)

    def lineage(self, recipe: Recipe, step: Step, version: int, params: Mapping[str, JSON]) -> Lineage:
        name = str(step.params["load"])
        sha256 = None if name in self._by_name else self._digest(recipe, step)
        return Lineage(step.kind, version, params, source=Source(name, sha256 or f"{_UNKNOWN}{name}"))


def _lineages(recipe: Recipe, known: _Inputs) -> dict[str, Lineage]:
    made: dict[str, Lineage] = {}
    for name in order(step_graph(recipe)):
        step = recipe.steps[name]
        kind = find_kind(step.kind)
        params = {option: value for option, value in step.params.items() if option not in kind.keyless}
        if "load" in step.params:
            made[name] = known.lineage(recipe, step, kind.version, params)
            continue
        inputs = {port: tuple((t.weight, made[t.step]) for t in terms) for port, terms in step.inputs.items()}
        made[name] = Lineage(step.kind, kind.version, params, inputs)
    return made


def _ends(recipe: Recipe) -> list[str]:
    """The steps that write or check something; what leads to none of them has no meaning."""
    ends = (Materialise.OUTPUT, Materialise.CHECK)
    return [name for name, step in recipe.steps.items() if find_kind(step.kind).materialise in ends]


def _paired(
    old: Recipe, new: Recipe, before: Mapping[str, Lineage], after: Mapping[str, Lineage]
) -> dict[str, str]:
    """Which end is which of the old recipe's: by its file, its meaning, its id, its kind."""
    sides = (old, before), (new, after)
    alike: tuple[Callable[[Recipe, Mapping[str, Lineage], str], object], ...] = (
        lambda recipe, _, end: recipe.steps[end].params.get("to"),
        lambda _, lineages, end: lineages[end].digest,
        lambda recipe, _, end: (end, recipe.steps[end].kind),
        lambda recipe, _, end: recipe.steps[end].kind,
    )
    pairs: dict[str, str] = {}
    then, now = dict.fromkeys(_ends(old)), dict.fromkeys(_ends(new))
    for mark in alike:
        former: dict[object, deque[str]] = {}
        for end in then:
            former.setdefault(mark(*sides[0], end), deque()).append(end)
        for end in tuple(now):
            found = mark(*sides[1], end)
            if found is not None and former.get(found):
                pairs[end] = former[found].popleft()
                del then[pairs[end]], now[end]
    return {name: pairs[name] for name in new.steps if name in pairs}


def _quietly(old: Step, new: Step) -> Iterator[str]:
    """Options that are in no key and are others now."""
    keyless = find_kind(new.kind).keyless
    for option in sorted(keyless & (old.params.keys() | new.params.keys())):
        was, now = old.params.get(option, UNSET), new.params.get(option, UNSET)
        if was is UNSET or now is UNSET or not same(was, now):
            yield arrow(option, was, now)
