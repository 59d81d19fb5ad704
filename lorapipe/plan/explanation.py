"""Each output and each stored step in a sentence: what a run would do with it, and because of what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import lorapipe.plan.explain as trees
from lorapipe.plan.explain import Before, Change
from lorapipe.plan.files import Certainty
from lorapipe.plan.lineage import Lineage
from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.remote.url import Location
from lorapipe.steps.kind import Materialise
from lorapipe.weights.specs import FileSpec

__all__ = ["Explanation", "History", "explain"]


@dataclass(frozen=True, slots=True)
class History:
    """What is known of earlier builds.

    ``outputs`` are the builds of each output by step id, the latest first; ``locked`` the words
    of the lock for what is another, by step and for the whole build (``None``), if there is a lock.
    ``known`` gives a file's sha256 if that can be had without reading it, ``there`` whether there is
    one; ``owned`` are the
    outputs that the lock has.
    """

    outputs: Mapping[str, tuple[Before, ...]]
    known: Callable[[Location], str | None]
    there: Callable[[Location], bool]
    locked: Mapping[str | None, tuple[str, ...]] | None = None
    owned: frozenset[Location] = frozenset()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A step, what a run would do with it, why, and what changed since the build that is compared with."""

    step: PlannedStep
    because: str
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class _View:
    plan: Plan
    history: History
    made: Mapping[str, Lineage]
    names: Mapping[str, str]
    former: Mapping[str, tuple[Before, Lineage]] = field(default_factory=dict)
    """By the digest of the lineage of now: what the step was, and in which build."""


def explain(plan: Plan, history: History, steps: Collection[str] | None = None) -> tuple[Explanation, ...]:
    """Why a run would do each output and each stored step, or would not; or only ``steps``.

    One that is neither is done within those that use it, and these are explained.
    """
    made = trees.lineages(plan)
    names: dict[str, str] = {}
    for name, lineage in made.items():
        names.setdefault(lineage.digest, name)
    view = _View(plan, history, made, names)
    view = _View(plan, history, made, names, dict(_former(view)))
    wanted = (
        [planned for planned in plan.steps.values() if _own(planned)]
        if steps is None
        else list({planned.step.id: planned for step in steps for planned in _around(plan, step)}.values())
    )
    return tuple(_with_assumed(_explained(planned, view), view) for planned in wanted)


def _own(planned: PlannedStep) -> bool:
    """Whether a step is done by itself, and not within one that uses it."""
    return planned.kind.materialise is not Materialise.LAZY


def _around(plan: Plan, step: str) -> Iterator[PlannedStep]:
    """The step, or the nearest ones below it that are done by themselves; the step first."""
    yield plan.steps[step]
    carried = {step} if not _own(plan.steps[step]) else set()
    for name, planned in plan.steps.items():  # inputs come before those that use them
        if any(term.step in carried for term in planned.step.terms()):
            if _own(planned):
                yield planned
            else:
                carried.add(name)


def _former(view: _View) -> Iterator[tuple[str, tuple[Before, Lineage]]]:
    """What each step was in the latest build of an output above which it stood."""
    seen: set[str] = set()
    for name, builds in view.history.outputs.items():
        was = _latest(builds, view.plan.steps[name], view)
        if was is not None and was.told is not None:
            _, pairs = trees.walk(view.made[name], was.told.lineage, view.names)
            for digest, lineage in pairs.items():
                if digest not in seen:
                    seen.add(digest)
                    yield digest, (was, lineage)


def _latest(builds: tuple[Before, ...], planned: PlannedStep, view: _View) -> Before | None:
    """The build to compare with: the one that made what is there, else the latest that tells how."""
    present = None if planned.output is None else view.history.known(planned.output)
    told = [build for build in builds if build.told is not None]
    return next((build for build in told if build.sha256 == present), told[0] if told else None)


def _explained(planned: PlannedStep, view: _View) -> Explanation:
    if planned.output is not None:
        because, compared = _output(planned, planned.output, view)
        return Explanation(planned, because, _changes(planned, view) if compared else ())
    if planned.kind.materialise is Materialise.STORED:
        return _stored(planned, view)
    if planned.kind.materialise is Materialise.CHECK:
        runs = planned.status is Status.RUN
        return Explanation(planned, planned.reason, _changes(planned, view) if runs else ())
    below = [each.step.id for each in _around(view.plan, planned.step.id)][1:]
    within = ", ".join(f"'{name}'" for name in below)
    return Explanation(planned, f"done within {within}" if below else "nothing uses it")


def _output(planned: PlannedStep, path: Location, view: _View) -> tuple[str, bool]:
    """Why an output would be written or not, and whether what changed belongs to it."""
    sort = "folder" if isinstance(planned.spec, FileSpec) and planned.spec.files else "file"
    if planned.status is Status.UP_TO_DATE:
        return f"the {sort} is as it was built, of the same inputs, options and versions", False
    if planned.status is Status.HELD:
        return planned.reason, False
    if planned.status is Status.UNDECIDED:
        # With a key it was built of just this, and only the file itself is in doubt.
        return _unread(planned, view), planned.key is None
    return _to_write(planned, path, sort, view)


def _to_write(planned: PlannedStep, path: Location, sort: str, view: _View) -> tuple[str, bool]:
    """Why an output would be written, as :func:`_output`."""
    builds = view.history.outputs.get(planned.step.id, ())
    changed = bool(_changes(planned, view))
    if not view.history.there(path):
        return _absent(planned, builds, changed), changed
    if not builds and path not in view.history.owned:
        return f"{planned.reason}; run leaves it alone without --force, unless it is the same", False
    present = view.history.known(path)
    if builds and present is not None and present not in {build.sha256 for build in builds}:
        was = f"sha256 {builds[0].sha256[:12]}... -> {present[:12]}..."
        return (
            f"the {sort} was changed since lorapipe wrote it, {was}; run needs --force to replace it",
            changed,
        )
    return ("this changed since it was built" if changed else planned.reason), changed


def _absent(planned: PlannedStep, builds: tuple[Before, ...], changed: bool) -> str:
    if builds and builds[0].key == planned.key:
        return "the file is not there; nothing else changed since it was built"
    if changed:
        return "the file is not there, and this changed since it was built"
    return "the file is not there, and no build of it is known"


def _stored(planned: PlannedStep, view: _View) -> Explanation:
    if planned.status is Status.IN_STORE:
        assert planned.key is not None
        where = "in the store" if planned.fetch is None else "in the shared store"
        return Explanation(planned, f"its result is {where}, key {planned.key[:12]}")
    if planned.status is Status.UNUSED:
        return Explanation(planned, planned.reason)
    changed = _changes(planned, view)
    if planned.status is Status.UNDECIDED:
        return Explanation(planned, _unread(planned, view), changed)
    hope = _hope(planned, view)
    if changed:
        return Explanation(planned, f"this changed since it was made{hope}", changed)
    if view.made[planned.step.id].digest in view.former:
        return Explanation(planned, f"it was made before, and its result is not in the store any more{hope}")
    return Explanation(planned, f"its result is not in the store, and no build of it is known{hope}")


def _hope(planned: PlannedStep, view: _View) -> str:
    """The stored steps above that will run: what they make decides whether this one works."""
    above = {digest.digest for digest in view.made[planned.step.id].ancestors()}
    running = [
        each.step.id
        for each in view.plan.steps.values()
        if each is not planned
        and each.kind.materialise is Materialise.STORED
        and each.status is Status.RUN
        and view.made[each.step.id].digest in above
    ]
    names = ", ".join(f"'{name}'" for name in running)
    return f"; if {names} comes out as before, it may be found all the same" if running else ""


def _with_assumed(found: Explanation, view: _View) -> Explanation:
    """Add which inputs are taken for what the lock or a pin says, on which the rest rests."""
    if found.step.kind.materialise is Materialise.LAZY:
        return found
    above = {lineage.digest for lineage in view.made[found.step.step.id].ancestors()}
    files = [
        each.source.path.name
        for each in view.plan.steps.values()
        if each.source is not None
        and each.source.certainty in (Certainty.LOCKED, Certainty.PINNED)
        and view.made[each.step.id].digest in above
    ]
    if not files:
        return found
    assumed = f"if {', '.join(files)}, not hashed, {'is' if len(files) == 1 else 'are'} as pinned or locked"
    return replace(found, because=f"{found.because}; {assumed}")


def _unread(planned: PlannedStep, view: _View) -> str:
    """Which inputs have no digest, without which nobody can tell."""
    above = {lineage.digest for lineage in view.made[planned.step.id].ancestors()}
    files = [
        each.source.path.name
        for each in view.plan.steps.values()
        if each.source is not None and each.source.sha256 is None and view.made[each.step.id].digest in above
    ]
    what = f"no sha256 is known of {', '.join(files)}" if files else planned.reason
    return f"{what}; lorapipe plan --hash reads what is not hashed yet, and decides"


def _changes(planned: PlannedStep, view: _View) -> tuple[Change, ...]:
    """What is another than in the latest build, by the journal; without it, by the lock."""
    now = view.made[planned.step.id]
    builds = view.history.outputs.get(planned.step.id, ())
    was = _latest(builds, planned, view)
    if was is not None and was.told is not None:
        former: tuple[Before, Lineage] | None = (was, was.told.lineage)
    else:
        former = view.former.get(now.digest)
    if former is not None:
        was, before = former
        return trees.changes(now, before, was, view.plan, view.names, planned.preimage)
    return tuple(_by_lock(planned, view))


def _by_lock(planned: PlannedStep, view: _View) -> Iterator[Change]:
    locked = view.history.locked or {}
    above = {lineage.digest for lineage in view.made[planned.step.id].ancestors()}
    for step, words in locked.items():
        if step is None:
            yield Change(None, words)
        elif step in view.made and view.made[step].digest in above:
            source = view.plan.steps[step].source
            yield Change(step, words, None if source is None else source.path)
