"""What all tasks of a build share: enough that a worker makes the same plan of the same recipe."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lorapipe.build.digests import Seen
from lorapipe.build.locks.locking import locked_input
from lorapipe.build.ownership import Ownership
from lorapipe.build.planning import Options, folders_of
from lorapipe.plan.files import Folders
from lorapipe.plan.plan import Plan
from lorapipe.plan.tasks import Task
from lorapipe.recipe.model import Recipe
from lorapipe.remote.state import Version
from lorapipe.remote.url import Location, Url
from lorapipe.store.lockfile import LockedInput
from lorapipe.store.places import Places

__all__ = ["Job", "job_of", "machine"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")

_ENVIRONMENT = ("SOURCE_DATE_EPOCH",)
"""What of the environment is in keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A build as its workers know it; all paths are absolute.

    ``name`` is one that no other build has. ``recipe`` has the steps that the tasks need, and ``keys``
    those of its steps by the client's plan. ``places`` are the client's stores, on its ``machine``.
    ``inputs`` maps each step that loads to what it loads, ``files`` are the files of all of them. ``ours``
    maps outputs that are there to their sha256, if lorapipe put them there; ``promised`` as in
    :class:`~lorapipe.build.ownership.Ownership`. ``workers`` are threads for each task, and ``memory``
    bytes for each process, where they are given.
    """

    name: str
    recipe: Recipe
    folders: Folders
    device: str
    environment: Mapping[str, str]
    places: Places
    machine: str
    inputs: Mapping[str, LockedInput]
    files: Mapping[Path | Version, Seen]
    keys: Mapping[str, str]
    ours: Mapping[Location, str]
    promised: Mapping[Location, str]
    force: bool = False
    workers: int | None = None
    memory: int | None = None


def job_of(plan: Plan, tasks: Iterable[Task], ownership: Ownership, options: Options) -> Job:
    """The job of a plan whose inputs are hashed."""
    recipe = _needed(plan.recipe, (step for task in tasks for step in task.steps))
    steps = [plan.steps[step] for step in recipe.steps]
    sources = {planned.step.id: planned.source for planned in steps if planned.source is not None}
    folders, records = folders_of(plan.recipe, options), ownership.records
    outputs = [planned.output for planned in plan.pending if planned.output is not None]
    return Job(
        name=os.urandom(8).hex(),
        recipe=recipe,
        folders=Folders(
            folders.recipe,
            tuple(folder.absolute() for folder in folders.models),
            folders.outputs if isinstance(folders.outputs, Url) else folders.outputs.absolute(),
        ),
        device=plan.device,
        environment={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        places=options.places,
        machine=machine(),
        inputs={step: locked_input(source, folders.recipe) for step, source in sources.items()},
        files={
            file: Seen.of(file, records.digests.hash(file))
            for source in sources.values()
            for file in source.files
        },
        keys={planned.step.id: planned.key for planned in steps if planned.key is not None},
        ours={path: present for path in outputs if (present := ownership.ours(path)) is not None},
        promised=dict(ownership.promised),
        force=ownership.force,
        workers=options.workers,
        memory=options.memory,
    )


def machine() -> str:
    """What tells this machine from another, and not two containers on it, which share its kernel's locks."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return socket.gethostname()


def _needed(recipe: Recipe, wanted: Iterable[str]) -> Recipe:
    """The recipe with the ``wanted`` steps and all above them."""
    found, pending = set[str](), list(wanted)
    while pending:
        step = pending.pop()
        if step not in found:
            found.add(step)
            pending += [term.step for term in recipe.steps[step].terms()]
    return replace(recipe, steps={name: step for name, step in recipe.steps.items() if name in found})
