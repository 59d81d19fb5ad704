"""``lorapipe lock``: the lock of a recipe without a build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorapipe.build.events import Listener
from lorapipe.build.locks.drift import Drift, drift
from lorapipe.build.locks.locking import locate, lock_of, locked_view
from lorapipe.build.planning import Options, hashing, plan_with, recipe_folder, unheard
from lorapipe.build.records import Records
from lorapipe.build.run import found_output
from lorapipe.errors import LockError
from lorapipe.plan.plan import Status
from lorapipe.recipe.model import Recipe
from lorapipe.store.lockfile import LockFile, read, write

__all__ = ["Relocked", "relock"]


@dataclass(frozen=True, slots=True)
class Relocked:
    """A lock that is up to date: what it took over that was otherwise before, and what has no file yet.

    ``drift`` is ``None`` where no lock was, or none that can be read.
    """

    path: Path
    lock: LockFile
    written: bool
    drift: Drift | None
    unbuilt: tuple[str, ...]


def relock(recipe: Recipe, options: Options, *, listen: Listener = unheard) -> Relocked:
    """Hash the inputs, resolve the keys, and write the lock unless it says the same already.

    Outputs that are right are in it with their sha256; of one that is not there stays what the lock
    says, where its key is the same; one that has to be built first has none. A lock with git's
    conflict markers, or that cannot be understood, counts as none. Raises what a plan raises.
    """
    path, folder = locate(recipe, options.lock), recipe_folder(recipe)
    before = _readable(path)
    with Records(looking=False, progress=hashing(listen), root=options.places) as records:
        made = plan_with(recipe, options, records, locked_view(before, folder), read=True)
        outputs = [
            found_output(made, output, records)
            for output in made.outputs
            if output.status is Status.UP_TO_DATE
        ]
    lock = lock_of(made, outputs, folder, before)
    written = write(path, lock)
    unbuilt = tuple(step.step.id for step in made.outputs if step.step.id not in lock.outputs)
    return Relocked(path, lock, written, None if before is None else drift(before, made), unbuilt)


def _readable(path: Path) -> LockFile | None:
    try:
        return read(path)
    except LockError as error:
        if error.code not in ("lock-conflict", "lock-malformed"):
            raise
        return None
