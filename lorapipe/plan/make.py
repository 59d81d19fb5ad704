"""Recipe -> Plan: resolve the steps, then decide from keys what a run would do."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol

from lorapipe.plan.checks import check_status, checked_steps, held_outputs, stopped
from lorapipe.plan.device import HERE, Machine, choose_device
from lorapipe.plan.files import Digests, Folders
from lorapipe.plan.graph import Position, order, schedule, step_graph
from lorapipe.plan.lineage import Profile, content_key
from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.plan.provenance import output_key, source_date
from lorapipe.plan.resolve import Resolved, resolve
from lorapipe.plan.room import shortages
from lorapipe.plan.shared import SharedPast, with_shared
from lorapipe.recipe.model import Recipe
from lorapipe.remote.url import Location, Url
from lorapipe.steps.kind import Materialise
from lorapipe.store.lockfile import LockedInput, LockedOutput
from lorapipe.weights.specs import FileSpec
from lorapipe.weights.verdicts import CheckSpec

__all__ = ["Locked", "Past", "make_plan"]

_DUE = (Status.RUN, Status.UNDECIDED)
_KEPT = (Materialise.STORED, Materialise.CHECK)
"""Kinds of which something is in the store, by content key."""


class Past(Protocol):
    """What a plan may ask of earlier builds; asking never writes."""

    @property
    def digests(self) -> Digests: ...

    def stored(self, key: str) -> bool:
        """Whether the store holds the result with this key."""

    def built(self, path: Location) -> tuple[tuple[str, str], ...]:
        """(sha256, key) of what lorapipe wrote to this path, latest first."""

    def finished(self, path: Location, key: str) -> Mapping[str, int]:
        """Sizes of the files of an output folder that an interrupted build finished, by name."""

    def there(self, path: Location) -> bool:
        """Whether an output is there."""

    def digest(self, path: Location, *, read: bool) -> str | None:
        """The sha256 of an output that is there; ``None`` if it is not known and not to be ``read``."""


@dataclass(frozen=True, slots=True)
class Locked:
    """What the lock file says, as far as a plan uses it.

    ``inputs`` maps load steps to sha256, ``outputs`` places to (sha256, key); ``device``
    is the device type of the locked profile. ``elsewhere`` are inputs at URLs, with what their servers
    said of them, ``marks`` such outputs. A build that is ``held`` to it reads the commits of
    repositories that it names.
    """

    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[Location, tuple[str, str]] = field(default_factory=dict)
    device: str | None = None
    elsewhere: Mapping[str, LockedInput] = field(default_factory=dict)
    marks: Mapping[Url, LockedOutput] = field(default_factory=dict)
    held: bool = False


def make_plan(  # noqa: PLR0913  # what a plan is made of, and how far it goes
    recipe: Recipe,
    folders: Folders,
    past: Past,
    locked: Locked,
    *,
    device: str | None = None,
    read: bool = False,
    assume: bool = False,
    machine: Machine = HERE,
    left_out: Collection[str] = (),
    shared: SharedPast | None = None,
) -> Plan:
    """Plan a build from headers and the memo; ``read`` hashes what the memo lacks.

    With ``assume`` that is outputs alone: inputs are taken to be what pins and lock say. ``machine``
    is the one that will do the work.
    ``device`` overrides the recipe's. ``left_out`` are steps that nothing wanted uses: of them nothing is
    read but headers, and nothing need be right. A ``shared`` store is asked for what would run. Raises
    :class:`~lorapipe.errors.ManyErrors` with all that can be wrong before any arithmetic.
    """
    graph = step_graph(recipe)
    checked = {check: step for check, step in checked_steps(recipe).items() if check not in left_out}
    sequence = order(graph, checked)
    wanted_device = device or str(recipe.defaults["device"])
    device, profile = choose_device(
        wanted_device, str(recipe.defaults["compute"]), locked.device, cuda=machine.cuda, mps=machine.mps
    )
    resolved = resolve(
        recipe,
        sequence,
        folders,
        past.digests,
        locked=locked.inputs,
        elsewhere=locked.elsewhere,
        held=locked.held,
        read=read and not assume,
        left_out=left_out,
    )
    date = source_date(os.environ if machine.environment is None else machine.environment)
    view = _View(profile, past, locked, read, date)
    steps = {name: _decide(resolved[name], resolved, view) for name in sequence if name not in left_out}
    held = {
        check: tuple(output for output in outputs if output in steps)
        for check, outputs in held_outputs(recipe).items()
        if check in steps
    }
    steps = stopped(steps, held)
    ends = [name for name, step in steps.items() if step.output or name in checked]

    def scheduled() -> tuple[Position, ...]:
        ready = {name for name, step in steps.items() if step.status is Status.IN_STORE}
        return schedule(graph, [e for e in ends if steps[e].status in _DUE], ready, checked)

    positions = scheduled()
    if shared is not None:
        steps = with_shared(steps, positions, shared)
        positions = scheduled()
    used = {*ends, *(position.step for position in positions)}
    steps = {name: step if name in used else _unused(step) for name, step in steps.items()}
    others = _left_out(left_out, resolved, replace(view, read=False))
    warnings = _warnings(steps, resolved)
    if shared is not None and shared.unasked is not None:
        warnings.append(shared.unasked)
    return Plan(recipe, device, profile, steps, positions, tuple(warnings), held, others)


@dataclass(frozen=True, slots=True)
class _View:
    """What decides a status, besides the step itself."""

    profile: Profile
    past: Past
    locked: Locked
    read: bool
    date: str | None


def _left_out(names: Iterable[str], resolved: Mapping[str, Resolved], view: _View) -> dict[str, PlannedStep]:
    steps = {name: _decide(resolved[name], resolved, view) for name in names if name in resolved}
    return {
        name: replace(step, status=Status.UNUSED, reason="left out by --only")
        for name, step in sorted(steps.items())
    }


def _decide(resolved: Resolved, all_of: Mapping[str, Resolved], view: _View) -> PlannedStep:
    said: Mapping[str, str] = MappingProxyType({})
    key = preimage = None
    if resolved.lineage is not None and resolved.kind.materialise in _KEPT:
        key, preimage = content_key(resolved.lineage, view.profile)
    elif resolved.lineage is not None and isinstance(resolved.spec, FileSpec):
        (term,) = resolved.step.inputs["save"]
        hidden = getattr(all_of[term.step].spec, "hidden", False)
        folder, path = bool(resolved.spec.files), resolved.files["to"]
        key, preimage, said = output_key(
            resolved.lineage, view.profile, path, hidden, folder=folder, date=view.date
        )
    present = None
    if key is not None and isinstance(resolved.spec, FileSpec):
        status, reason, present = _output_status(resolved.files["to"], resolved.spec, key, view)
    else:
        status, reason = _status(resolved, key, view)
    return PlannedStep(
        step=resolved.step,
        kind=resolved.kind,
        spec=resolved.spec,
        cost=resolved.cost,
        files=resolved.files,
        source=resolved.source,
        lineage=resolved.lineage,
        key=key,
        preimage=preimage,
        provenance=said,
        status=status,
        reason=reason,
        present=present,
    )


def _status(resolved: Resolved, key: str | None, view: _View) -> tuple[Status, str]:
    if resolved.kind.materialise is Materialise.LAZY:
        return Status.RUN, "fused into what uses it"
    if isinstance(resolved.spec, CheckSpec):
        return check_status(resolved.spec, key, stored=key is not None and view.past.stored(key))
    if key is None:
        return Status.UNDECIDED, "an input is not hashed yet"
    if view.past.stored(key):
        return Status.IN_STORE, f"key {key[:12]}"
    return Status.RUN, "no result with this key in the store"


def _output_status(path: Location, spec: FileSpec, key: str, view: _View) -> tuple[Status, str, str | None]:
    """An output's status, why, and its digest where it is up to date."""
    sort = "folder" if spec.files else "file"
    known = [*view.past.built(path), *filter(None, [view.locked.outputs.get(path)])]
    mine = {sha256 for sha256, made in known if made == key}
    status = Status.RUN
    if not view.past.there(path):
        reason = f"the {sort} is not there yet"
    elif not known:
        reason = f"a {sort} is there that lorapipe did not write"
    elif not mine:
        reason = "the recipe or an input changed"
    else:
        present = view.past.digest(path, read=view.read)
        if present in mine:
            return Status.UP_TO_DATE, f"key {key[:12]}", present
        status = Status.UNDECIDED if present is None else Status.RUN
        reason = f"the {sort} {'is not hashed yet' if present is None else 'was changed since it was built'}"
    there = spec.files.keys() & view.past.finished(path, key).keys() if spec.files else ()
    return (
        status,
        f"{reason}; {len(there)} of {len(spec.files)} files are finished" if there else reason,
        None,
    )


def _unused(step: PlannedStep) -> PlannedStep:
    if step.status is Status.IN_STORE and step.fetch is None:
        return step
    return replace(step, status=Status.UNUSED, reason="nothing that will run uses it", fetch=None)


def _warnings(steps: Mapping[str, PlannedStep], resolved: Mapping[str, Resolved]) -> list[str]:
    warnings = [f"step '{name}': {text}" for name in steps for text in resolved[name].warnings]
    if not any(step.output for step in steps.values()):
        warnings.append("no step saves anything: a run makes no file")
    due = [step for step in steps.values() if step.output is not None and step.status in _DUE]
    warnings += [
        f"{short.folder} has {short.free:,} bytes free, the outputs take {short.needed:,}"
        for short in shortages(due)
    ]
    return warnings
