"""How to build, and the plan of a build: free, or held to the lock."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from lorapipe.build.digests import HashProgress
from lorapipe.build.events import Event, Hashing, Listener
from lorapipe.build.locks.drift import drift
from lorapipe.build.locks.locking import locate, locked_view, required, right_outputs
from lorapipe.build.ownership import Ownership
from lorapipe.build.records import Records
from lorapipe.errors import LorapipeError
from lorapipe.plan.device import HERE, Machine
from lorapipe.plan.files import Folders
from lorapipe.plan.make import Locked, make_plan
from lorapipe.plan.placing import place_output
from lorapipe.plan.plan import Plan
from lorapipe.recipe.model import Recipe
from lorapipe.recipe.selection import Only, left_out
from lorapipe.remote.url import Location, Url
from lorapipe.store.lockfile import read as read_lock
from lorapipe.store.places import Places, find_places

__all__ = [
    "MODELS_VARIABLE",
    "Options",
    "folders_of",
    "hashing",
    "outputs_folder",
    "plan",
    "plan_free",
    "plan_held",
    "plan_with",
    "recipe_folder",
    "unheard",
]

MODELS_VARIABLE = "LORAPIPE_MODELS"
"""Folders to look for inputs in, separated as PATH is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to build; apart from ``device`` none of it changes a byte.

    ``models`` are folders to look for inputs in, besides those of ``LORAPIPE_MODELS``;
    ``lock`` is the lock file's path if not beside the recipe; ``force`` replaces files
    that lorapipe did not write; ``workers`` are threads, by default one per core;
    ``memory`` is how many bytes the process may take at most.

    ``locked`` builds what the lock describes or nothing, and leaves the lock alone; with
    ``any_profile`` torch and device may be others. ``frozen`` is ``locked``, and inputs are not
    hashed before the work but beside it. ``store`` is the store's folder, or the URL of a shared one, and
    ``shared_store`` the latter beside a folder: as :func:`~lorapipe.store.places.find_places` takes them.
    ``only`` are the values of axes that are wanted: other variants of the recipe are left alone.

    ``engine`` is what runs the work: ``threads``, or ``dask``, on the cluster of a ``scheduler`` (its
    address, or the file that it writes) or, without one, on as many processes as there are ``workers``.
    ``memory`` is then each process's. ``frozen`` hashes inputs first: they are vouched for to the workers.
    """

    device: str | None = None
    workers: int | None = None
    models: tuple[Path, ...] = ()
    output_root: Location | None = None
    lock: Path | None = None
    force: bool = False
    memory: int | None = None
    locked: bool = False
    frozen: bool = False
    any_profile: bool = False
    store: Path | str | None = None
    shared_store: str | None = None
    only: Only = field(default_factory=lambda: MappingProxyType({}))
    engine: str = "threads"
    scheduler: str | None = None

    @property
    def places(self) -> Places:
        """Where the stores are; raises :class:`~lorapipe.errors.UsageError`."""
        return find_places(self.store, self.shared_store)

    @property
    def held(self) -> bool:
        """Whether the build is held to the lock."""
        return self.locked or self.frozen


def unheard(event: Event) -> None:
    """Nobody listens."""


def plan(
    recipe: Recipe, options: Options | None = None, *, read: bool = False, listen: Listener = unheard
) -> Plan:
    """What a build would do. Reads headers only, or whole inputs to hash them (``read``)."""
    options = options or Options()
    with Records(looking=not read, progress=hashing(listen), root=options.places) as records:
        return plan_with(recipe, options, records, _locked(recipe, options), read=read)


def plan_free(
    recipe: Recipe, options: Options, records: Records, machine: Machine = HERE
) -> tuple[Plan, Ownership]:
    """The plan of a build that the lock does not hold, and what it may replace."""
    locked = _locked(recipe, options)
    made = plan_with(recipe, options, records, locked, read=True, machine=machine)
    return made, Ownership(records, locked, options.force)


def plan_held(
    recipe: Recipe, options: Options, records: Records, machine: Machine = HERE
) -> tuple[Plan, Ownership]:
    """The plan of a build that is what the lock describes, and what it may replace.

    Raises :class:`~lorapipe.errors.LockError`, before any work, when it is not.
    """
    make = partial(plan_with, recipe, options, records, read=True, machine=machine)
    path = locate(recipe, options.lock)
    lock, folder = required(path), recipe_folder(recipe)
    locked = replace(locked_view(lock, folder), held=True)
    made = make(locked)
    drift(lock, made).refuse(str(path), any_profile=options.any_profile)
    right = replace(locked, outputs=right_outputs(lock, made))
    if right.outputs != locked.outputs:  # under another root, or by another torch or device
        made = make(right)
    promised = {} if options.any_profile else {path: sha256 for path, (sha256, _) in right.outputs.items()}
    ownership = Ownership(records, right, options.force, promised)
    ownership.check_promised(output.output for output in made.current)
    return made, ownership


def _locked(recipe: Recipe, options: Options) -> Locked:
    return locked_view(read_lock(locate(recipe, options.lock)), recipe_folder(recipe))


def plan_with(
    recipe: Recipe,
    options: Options,
    records: Records,
    locked: Locked,
    *,
    read: bool,
    machine: Machine = HERE,
) -> Plan:
    """A plan made with records that are open, and with what the lock says."""
    folders, out = folders_of(recipe, options), left_out(recipe, options.only)
    records.elsewhere.trust(locked.marks)
    if isinstance(folders.outputs, Url):
        records.elsewhere.expect(_targets(recipe, folders, out))
    return make_plan(
        recipe,
        folders,
        records,
        locked,
        device=options.device,
        read=read,
        assume=options.frozen and options.engine == "threads",
        machine=machine,
        left_out=out,
        shared=records.sharing,
    )


def _targets(recipe: Recipe, folders: Folders, out: Collection[str]) -> Iterator[Url]:
    """The URLs that a recipe writes to; what is wrong with one is for the plan to say."""
    for step in recipe.steps.values():
        if "to" in step.params and step.id not in out:
            with suppress(LorapipeError):
                placed = place_output(str(step.params["to"]), folders)
                assert isinstance(placed, Url)
                yield placed


def folders_of(recipe: Recipe, options: Options) -> Folders:
    """Where the names in a recipe start."""
    named = os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)
    models = (*options.models, *(Path(folder) for folder in named if folder))
    return Folders(recipe_folder(recipe), models, options.output_root)


def outputs_folder(recipe: Recipe, options: Options) -> Path:
    """The folder that outputs are seen from: the recipe's, where theirs is elsewhere."""
    root = options.output_root
    return root if isinstance(root, Path) else recipe_folder(recipe)


def recipe_folder(recipe: Recipe) -> Path:
    """The folder that the recipe's relative paths start from: absolute, without links.

    A recipe that is itself a link counts where the link is.
    """
    return Path(recipe.file).parent.resolve()


def hashing(listen: Listener) -> HashProgress:
    """Tell a listener of the hashing."""
    return lambda path, done, total: listen(Hashing(path, done, total))
