"""``lorapipe status``: where inputs, steps and outputs stand against the lock and the disk."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lorapipe.build.locks.drift import Drift, drift
from lorapipe.build.locks.locking import locate, locked_view
from lorapipe.build.planning import Options, folders_of, plan_with, recipe_folder
from lorapipe.build.records import Records
from lorapipe.errors import LorapipeError, ManyErrors
from lorapipe.plan.files import Certainty, InputFile, find_input, identify
from lorapipe.plan.make import Locked
from lorapipe.plan.placing import place_output
from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.recipe.model import Recipe, Step
from lorapipe.recipe.selection import left_out
from lorapipe.remote.url import Location
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Materialise
from lorapipe.store.lockfile import LockedInput, LockedOutput, LockFile, read

__all__ = ["Row", "Standing", "State", "status"]


class State(Enum):
    """How a step stands: inputs first, then outputs, then results that are kept in the store."""

    OK = "ok"
    CHANGED = "changed"
    MISSING = "missing"
    UNHASHED = "not hashed yet"
    UP_TO_DATE = "up to date"
    NOT_BUILT = "not built"
    EDITED = "changed since built"
    FOREIGN = "not lorapipe's"
    HELD = "held back"
    FAILS = "does not hold"
    STORED = "in the store"
    SHARED = "in the shared store"
    WILL_RUN = "will run"
    NOT_NEEDED = "not needed"
    UNTOLD = "cannot be told"
    """Something above it is wrong."""


@dataclass(frozen=True, slots=True)
class Row:
    """A step: its file with the size in bytes, the sha256 that the lock has, and what changed since.

    ``state`` is ``None`` for what has none: a step that is fused into what uses it.
    """

    step: str
    kind: str
    state: State | None
    path: Location | None = None
    size: int | None = None
    locked: str | None = None
    since: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """A row for each step in the order of the recipe.

    ``drift`` is ``None`` without a lock, or where ``errors`` let no plan be made.
    """

    rows: tuple[Row, ...]
    lock: Path
    locked: bool
    drift: Drift | None
    errors: tuple[LorapipeError, ...]


def status(recipe: Recipe, options: Options) -> Standing:
    """Look at headers, at the memo and at the lock; nothing is hashed, nothing is written.

    What is wrong with inputs and recipe is in the result. Raises
    :class:`~lorapipe.errors.LockError` for a lock that cannot be read.
    """
    path, folder = locate(recipe, options.lock), recipe_folder(recipe)
    lock = read(path)
    with Records(looking=True, root=options.places) as records:
        made, errors = _plan(recipe, options, records, locked_view(lock, folder))
        found = drift(lock, made) if lock is not None and made is not None else None
        look = _Look(recipe, options, records, lock or LockFile(lorapipe=""), made, found or Drift())
        out = left_out(recipe, options.only)
        rows = tuple(look.row(step) for step in recipe.steps.values() if step.id not in out)
    return Standing(rows, path, lock is not None, found, errors)


def _plan(
    recipe: Recipe, options: Options, records: Records, locked: Locked
) -> tuple[Plan | None, tuple[LorapipeError, ...]]:
    try:
        return plan_with(recipe, options, records, locked, read=False), ()
    except ManyErrors as error:
        return None, error.errors


@dataclass(frozen=True, slots=True)
class _Look:
    """What every row is made from."""

    recipe: Recipe
    options: Options
    records: Records
    lock: LockFile
    plan: Plan | None
    drift: Drift

    def row(self, step: Step) -> Row:
        kind, since = find_kind(step.kind), self.drift.steps.get(step.id, ())
        planned = None if self.plan is None else self.plan.steps[step.id]
        if kind.materialise is Materialise.OUTPUT:
            return self._output(step, planned, since)
        if "load" in step.params:
            return self._input(step, since)
        state = State.UNTOLD if planned is None else _STATES.get(planned.status)
        if planned is not None and planned.fetch is not None:
            state = State.SHARED
        return Row(step.id, step.kind, None if kind.materialise is Materialise.LAZY else state, since=since)

    def _input(self, step: Step, since: tuple[str, ...]) -> Row:
        locked = self.lock.inputs.get(step.id)
        sha256 = None if locked is None else locked.sha256
        try:
            source = self._source(step)
        except LorapipeError as error:
            state = _trouble(error.code)
            return Row(step.id, step.kind, state, locked=sha256, since=since)
        return Row(step.id, step.kind, _input_state(source, locked), source.path, source.size, sha256, since)

    def _source(self, step: Step) -> InputFile:
        digests, folders = self.records.digests, folders_of(self.recipe, self.options)
        pin, variant = (_text(step.params.get(name)) for name in ("sha256", "variant"))
        path = find_input(str(step.params["load"]), pin, folders, digests)
        return identify(path, pin, None, digests, read=False, variant=variant)

    def _output(self, step: Step, planned: PlannedStep | None, since: tuple[str, ...]) -> Row:
        locked = self.lock.outputs.get(step.id)
        sha256 = None if locked is None else locked.sha256
        try:
            path = place_output(str(step.params["to"]), folders_of(self.recipe, self.options))
        except LorapipeError:
            return Row(step.id, step.kind, State.UNTOLD, locked=sha256, since=since)
        state = self._output_state(path, planned, locked)
        return Row(step.id, step.kind, state, path, self.records.size(path), sha256, since)

    def _output_state(
        self, path: Location, planned: PlannedStep | None, locked: LockedOutput | None
    ) -> State:
        if not self.records.there(path):
            return State.NOT_BUILT
        wanted = set() if locked is None else {locked.sha256}
        ours = wanted | {sha256 for sha256, _ in self.records.built(path)}
        present = self.records.digest(path, read=False)
        if not ours:
            return State.FOREIGN
        # Of another size than the one digest that it could have: that needs no hashing.
        resized = locked is not None and ours == wanted and self.records.size(path) != locked.size
        if resized or (present is not None and present not in ours):
            return State.EDITED
        if planned is None:
            return State.UNTOLD
        return State.UNHASHED if present is None else _STATES.get(planned.status, State.WILL_RUN)


_STATES = {
    Status.UP_TO_DATE: State.UP_TO_DATE,
    Status.IN_STORE: State.STORED,
    Status.RUN: State.WILL_RUN,
    Status.UNDECIDED: State.UNHASHED,
    Status.UNUSED: State.NOT_NEEDED,
    Status.HELD: State.HELD,
    Status.FAILS: State.FAILS,
}


def _trouble(code: str) -> State:
    """The state of an input that cannot be identified; a server that does not answer tells nothing of it."""
    if code in ("input-missing", "remote-missing"):
        return State.MISSING
    return State.UNTOLD if code.startswith("remote-") else State.CHANGED


def _input_state(source: InputFile, locked: LockedInput | None) -> State:
    """Whether an input is what the lock has; another size tells it without any hashing."""
    if locked is not None and locked.size != source.size:
        return State.CHANGED
    if source.certainty not in (Certainty.CHECKED, Certainty.STATED):
        return State.UNHASHED
    return State.OK if locked is None or locked.sha256 == source.sha256 else State.CHANGED


def _text(value: object) -> str | None:
    return None if value is None else str(value)
