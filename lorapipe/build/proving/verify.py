"""``lorapipe verify``: whether the outputs are what the lock says they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

from lorapipe.build.digests import HashProgress
from lorapipe.build.elsewhere import present_at
from lorapipe.build.events import Listener
from lorapipe.build.locks.locking import locate, required
from lorapipe.build.planning import Options, folders_of, hashing, unheard
from lorapipe.errors import CheckFailed, InputError, LorapipeError, ManyErrors
from lorapipe.plan.placing import place_output
from lorapipe.plan.resolve import placed
from lorapipe.recipe.model import Recipe
from lorapipe.recipe.selection import left_out
from lorapipe.remote.hashing import sha256_of
from lorapipe.remote.url import Location, Url
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Materialise
from lorapipe.store.contents import whole_digest
from lorapipe.store.digest import sha256_file
from lorapipe.store.lockfile import LockedOutput

__all__ = ["State", "Verified", "output_paths", "require", "verify"]


class State(Enum):
    """What an output is to the lock."""

    OK = "ok"
    CHANGED = "changed"
    MISSING = "missing"
    NOT_LOCKED = "not locked"


@dataclass(frozen=True, slots=True)
class Verified:
    """An output: what the lock has of it, and the sha256 of what is there."""

    step: str
    path: Location
    state: State
    locked: LockedOutput | None
    sha256: str | None


def verify(recipe: Recipe, options: Options, *, listen: Listener = unheard) -> tuple[Verified, ...]:
    """Read every output whole and hold it against the lock; no input is needed, nothing is written.

    The memo is not asked: a bit that the disk lost shows in no time stamp. Raises
    :class:`~lorapipe.errors.LockError` ``lock-missing``.
    """
    lock, progress = required(locate(recipe, options.lock)), hashing(listen)
    return tuple(
        _verified(step, path, lock.outputs.get(step), _digest(path, progress))
        for step, path in output_paths(recipe, options)
    )


def require(outputs: Iterable[Verified]) -> None:
    """Raise :class:`~lorapipe.errors.CheckFailed` ``not-as-locked`` unless all are as the lock has them."""
    all_of = tuple(outputs)
    bad = [f"{output.step}: {output.state.value}" for output in all_of if output.state is not State.OK]
    if bad:
        message = f"{len(bad)} of {len(all_of)} outputs are not what the lock says"
        hint = "move away what changed: 'lorapipe run' makes what is not there"
        if all(output.state in (State.OK, State.NOT_LOCKED) for output in all_of):
            hint = "'lorapipe run' enters them into the lock"
        raise CheckFailed("not-as-locked", message, hint=hint, details=bad)


def output_paths(recipe: Recipe, options: Options) -> Iterator[tuple[str, Location]]:
    """Each step that writes, with the path it writes to. Raises as a plan does, all errors at once."""
    folders, errors = folders_of(recipe, options), list[LorapipeError]()
    out = left_out(recipe, options.only)
    for step in recipe.steps.values():
        if step.id in out or find_kind(step.kind).materialise is not Materialise.OUTPUT:
            continue
        try:
            yield step.id, place_output(str(step.params["to"]), folders)
        except LorapipeError as error:
            errors.extend(placed(error, step))
    if errors:
        raise ManyErrors(errors)


def _verified(step: str, path: Location, locked: LockedOutput | None, found: str | None) -> Verified:
    if found is None:
        state = State.MISSING
    elif locked is None:
        state = State.NOT_LOCKED
    else:
        state = State.OK if found == locked.sha256 else State.CHANGED
    return Verified(step, path, state, locked, found)


def _digest(path: Location, progress: HashProgress) -> str | None:
    """The digest of an output, read whole; ``None`` where nothing is."""
    if isinstance(path, Url):
        found = present_at(path)
        return None if found is None else found.digest(lambda v: sha256_of(v, partial(progress, v.url)))

    def read(file: Path) -> str:
        return sha256_file(file, partial(progress, file))

    if not path.is_dir():
        return read(path) if path.exists() else None
    try:
        return whole_digest(path, read)
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise InputError("input-unreadable", message, where=str(path)) from error
