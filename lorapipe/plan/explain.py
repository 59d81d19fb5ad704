"""Why a run would do a step, or would not: the plan held against what earlier builds left word of.

Two lineages are walked side by side, that of the plan and that of an earlier build, down to
where they differ; :func:`~lorapipe.plan.differences.differences` puts that into words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lorapipe.errors import InputError
from lorapipe.plan.differences import Description, arrow, differences
from lorapipe.plan.lineage import KEY_SCHEMA, Lineage, Profile, Source
from lorapipe.plan.plan import Plan
from lorapipe.plan.provenance import DATE
from lorapipe.plan.told import Told, read_account
from lorapipe.remote.url import Location
from lorapipe.store.journal import Record

__all__ = ["Before", "Change", "changes", "lineages", "walk"]

Terms = Sequence[tuple[float, Lineage]]


@dataclass(frozen=True, slots=True)
class Change:
    """What is another than it was, in words, old -> new, at one ``step``; ``None`` is the whole build.

    ``file`` is the input that the step loads.
    """

    step: str | None
    words: tuple[str, ...]
    file: Location | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """An earlier build of an output: its sha256 and key, and how it came to be, where that is known."""

    sha256: str
    key: str
    told: Told | None = None
    schema: int | None = None
    file: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, record: Record) -> Before:
        """What a record of the journal tells; one that cannot be read tells the key alone."""
        try:
            told = read_account(record.making.lineage, "the journal")
            preimage = json.loads(record.making.preimage)
            return cls(record.sha256, record.key, told, preimage["key-schema"], preimage["file"])
        except (InputError, ValueError, LookupError, TypeError, RecursionError):
            return cls(record.sha256, record.key)


def lineages(plan: Plan) -> Mapping[str, Lineage]:
    """The lineage of each step by id; of an input that is not hashed yet the sha256 is ``""``."""
    made: dict[str, Lineage] = {}
    for name, planned in plan.steps.items():
        inputs = {
            port: tuple((term.weight, made[term.step]) for term in terms)
            for port, terms in planned.step.inputs.items()
        }
        params = {n: value for n, value in planned.step.params.items() if n not in planned.kind.keyless}
        known = planned.source
        source = None if known is None else Source(known.path.name, known.sha256 or "")
        # Told anew where it is known already: then a step has one lineage, whoever takes it.
        made[name] = planned.lineage or Lineage(
            planned.step.kind, planned.kind.version, params, inputs, source
        )
    return made


def changes(
    now: Lineage, before: Lineage, was: Before, plan: Plan, names: Mapping[str, str], preimage: str | None
) -> tuple[Change, ...]:
    """All that differs between a step's lineage and the one it had, or what stood in its place.

    ``names`` are the plan's steps by the digest of their lineage; ``preimage`` is that of the
    step's key, if it is known.
    """
    general = tuple(_general(was, plan.profile, preimage))
    found = [Change(None, general)] if general else []
    steps, _ = walk(now, before, names)
    for step, words in steps.items():
        source = plan.steps[step].source
        found.append(Change(step, words, None if source is None else source.path))
    return tuple(found) or tuple(_renamed(now, before, names))


def _general(was: Before, profile: Profile, preimage: str | None) -> Iterator[str]:
    """What is another for the whole build, or for the file and not for its numbers."""
    if was.schema is not None and was.schema != KEY_SCHEMA:
        yield arrow("key schema", was.schema, KEY_SCHEMA)
    if was.told is not None:
        then = was.told.profile.as_json()
        for name, value in profile.as_json().items():
            if then[name] != value:
                yield arrow(name, then[name], value)
    file = json.loads(preimage)["file"] if preimage else {}
    if file and was.file:  # else it is a result in the store, or nothing is known
        for name in ("format", DATE):
            if was.file.get(name) != file.get(name):
                yield arrow(name, was.file.get(name, "none"), file.get(name, "none"))


def _renamed(now: Lineage, before: Lineage, names: Mapping[str, str]) -> Iterator[Change]:
    """Inputs of the same content under another name, which full provenance tells."""
    old = {each.digest: each.source.name for each in before.ancestors() if each.source is not None}
    for each in now.ancestors():
        if each.source is not None and old.get(each.digest, each.source.name) != each.source.name:
            words = arrow("file name", old[each.digest], each.source.name)
            yield Change(names[each.digest], (words,))


Pairs = Mapping[str, Lineage]
"""What each step was before, by the digest of the lineage that it has now."""


def walk(
    now: Lineage, before: Lineage, names: Mapping[str, str]
) -> tuple[Mapping[str, tuple[str, ...]], Pairs]:
    """Differences in words by step, from the result up to the inputs, and which step was which."""
    found: dict[str, tuple[str, ...]] = {}
    pairs: dict[str, Lineage] = {}
    pending = [(now, before)]
    seen: set[tuple[str, str]] = set()
    while pending:
        new, old = pending.pop(0)
        if (new.digest, old.digest) in seen:
            continue
        seen.add((new.digest, old.digest))
        if new.digest == old.digest:
            pairs.update((each.digest, each) for each in new.ancestors() if each.digest not in pairs)
            continue
        words, further = _compared(new, old, names)
        if words:
            found.setdefault(names[new.digest], words)
        if new.kind == old.kind:
            pairs.setdefault(new.digest, old)
        pending += further
    return found, pairs


def _compared(
    new: Lineage, old: Lineage, names: Mapping[str, str]
) -> tuple[tuple[str, ...], list[tuple[Lineage, Lineage]]]:
    """How one step differs from another, and which of their inputs are to be compared."""
    if new.kind != old.kind:
        return _other_kind(new, old)
    further: list[tuple[Lineage, Lineage]] = []
    now, then = {}, {}
    for port in sorted(new.inputs.keys() | old.inputs.keys()):
        terms, former = new.inputs.get(port, ()), old.inputs.get(port, ())
        matched = _matched(terms, former)
        further += [(terms[at][1], former[place][1]) for place, at in sorted(matched.items())]
        now[port] = [(names[each.digest], weight) for weight, each in terms]
        then[port] = [
            (names[terms[matched[place]][1].digest] if place in matched else _label(each), weight)
            for place, (weight, each) in enumerate(former)
        ]
    unread = new.source is not None and not new.source.sha256
    words = differences(
        Description(old.kind, old.version, old.params, then, None if unread else _sha256(old)),
        Description(new.kind, new.version, new.params, now, None if unread else _sha256(new)),
    )
    return (*words, *_files(new, old, unread)), further


def _other_kind(new: Lineage, old: Lineage) -> tuple[tuple[str, ...], list[tuple[Lineage, Lineage]]]:
    """A step that came in between, one that is gone from there, or another in its place."""
    inserted = next((each for each in _inputs(new) if each.kind == old.kind), None)
    if inserted is not None:
        return (f"{new.kind} was not there",), [(inserted, old)]
    removed = next((each for each in _inputs(old) if each.kind == new.kind), None)
    if removed is not None:
        return (f"{old.kind} of it is not there any more",), [(new, removed)]
    return (arrow("kind", old.kind, new.kind),), []


def _files(new: Lineage, old: Lineage, unread: bool) -> Iterator[str]:
    """What the words of two digests leave open."""
    if new.source is None or old.source is None:
        return
    if new.source.name != old.source.name and new.source.sha256 != old.source.sha256:
        yield arrow("file", old.source.name, new.source.name)
    if unread:
        yield f"not hashed yet, was {old.source.sha256[:12]}..."


def _matched(new: Terms, old: Terms) -> dict[int, int]:
    """Which term of ``old`` is which of ``new``: the same, of one file, of one kind, or what is left."""
    pairs: dict[int, int] = {}

    def pair(alike: Iterable[tuple[int, int]]) -> None:
        for place, at in alike:
            if place not in pairs and at not in pairs.values():
                pairs[place] = at

    both = [(place, at) for at in range(len(new)) for place in range(len(old))]
    pair((p, a) for p, a in both if old[p][1].digest == new[a][1].digest)
    pair((p, a) for p, a in both if _name(old[p][1]) == _name(new[a][1]) is not None)
    pair((p, a) for p, a in both if old[p][1].kind == new[a][1].kind)
    if len(new) == len(old):
        pair(both)
    return pairs


def _inputs(lineage: Lineage) -> Iterator[Lineage]:
    return (each for terms in lineage.inputs.values() for _, each in terms)


def _name(lineage: Lineage) -> str | None:
    return None if lineage.source is None else lineage.source.name


def _label(lineage: Lineage) -> str:
    """What people know a former step by, whose id nobody kept: the file it read, or its kind."""
    return _name(lineage) or lineage.kind


def _sha256(lineage: Lineage) -> str | None:
    return None if lineage.source is None else lineage.source.sha256
