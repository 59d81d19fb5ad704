"""One build from beginning to end: plan, refuse what must not be, execute, lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lorapipe.build.drift import drift
from lorapipe.build.engines.threads import default_workers
from lorapipe.build.events import Event, Hashing, Listener
from lorapipe.build.locking import locate, lock_of, locked_view, required, right_outputs
from lorapipe.build.means import Means
from lorapipe.build.ownership import Ownership
from lorapipe.build.records import EntryVanished, HashProgress, Records
from lorapipe.build.result import Built, BuiltOutput
from lorapipe.build.results import Results
from lorapipe.errors import BuildError, LorapipeError, ManyErrors
from lorapipe.plan.files import Folders
from lorapipe.plan.make import Locked, make_plan
from lorapipe.plan.plan import Plan, PlannedStep
from lorapipe.recipe.model import Recipe
from lorapipe.store.atomic import Hook, stage
from lorapipe.store.contents import folder_size
from lorapipe.store.lockfile import read, write
from lorapipe.store.temporaries import sweep
from lorapipe.weights.specs import FileSpec

__all__ = ["MODELS_VARIABLE", "Options", "build", "plan", "recipe_folder"]

MODELS_VARIABLE = "LORAPIPE_MODELS"
"""Folders to look for inputs in, separated as PATH is."""

_ATTEMPTS = 3
"""Plans made anew when the store loses an entry that the plan counted on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to build; apart from ``device`` none of it changes a byte.

    ``models`` are folders to look for inputs in, besides those of ``LORAPIPE_MODELS``;
    ``lock`` is the lock file's path if not beside the recipe; ``force`` replaces files
    that lorapipe did not write; ``workers`` are threads, by default one per core;
    ``memory`` is how many bytes the process may take at most.

    ``locked`` builds what the lock describes or nothing, and leaves the lock alone; with
    ``any_profile`` torch and device may be others. ``frozen`` is ``locked``, and inputs are not
    hashed before the work but beside it. ``store`` is the store's folder, if not the user's.
    """

    device: str | None = None
    workers: int | None = None
    models: tuple[Path, ...] = ()
    output_root: Path | None = None
    lock: Path | None = None
    force: bool = False
    memory: int | None = None
    locked: bool = False
    frozen: bool = False
    any_profile: bool = False
    store: Path | None = None

    @property
    def held(self) -> bool:
        """Whether the build is held to the lock."""
        return self.locked or self.frozen


_DEFAULTS = Options()


def _ignore(event: Event) -> None:
    pass


def _no_hook(point: str) -> None:
    pass


def plan(
    recipe: Recipe, options: Options = _DEFAULTS, *, read: bool = False, listen: Listener = _ignore
) -> Plan:
    """What a build would do. Reads headers only, or whole inputs to hash them (``read``)."""
    with Records(looking=not read, progress=_hashing(listen)) as records:
        return _plan(recipe, options, records, _locked(recipe, options), read=read)


def build(
    recipe: Recipe, options: Options = _DEFAULTS, *, listen: Listener = _ignore, hook: Hook = _no_hook
) -> Built:
    """Make every output of the recipe that is not up to date.

    ``hook`` is called at each point where a crash would matter. Raises
    :class:`~lorapipe.errors.ManyErrors` with all that the plan finds wrong,
    :class:`~lorapipe.errors.LockError` where the build is held to a lock that describes another,
    and :class:`~lorapipe.errors.BuildError` for what goes wrong after it.
    """
    with Records(looking=False, progress=_hashing(listen), hook=hook, root=options.store) as records:
        made, written = _attempt(recipe, options, records, listen)
        outputs = tuple(_output(made, step, written, records) for step in made.outputs)
    lock = locate(recipe, options.lock)
    for folder in {lock.parent, *(output.path.parent for output in outputs)}:
        sweep(folder)
    if not options.held:
        write(lock, lock_of(made, outputs, recipe_folder(recipe)))
    return Built(made, outputs)


def _attempt(
    recipe: Recipe, options: Options, records: Records, listen: Listener
) -> tuple[Plan, Mapping[str, BuiltOutput]]:
    make = partial(_plan, recipe, options, records, read=True)
    hold = _held if options.held else _free
    for _ in range(_ATTEMPTS):
        made, ownership = hold(recipe, options, records, make)
        means = Means(options.workers or default_workers(), options.memory)
        means.check(made)
        _check_targets(made, ownership)
        if made.pending:
            # Both are needed when the work is done: better to know before.
            records.probe()
            if not options.held:
                stage(locate(recipe, options.lock), label="lock").discard()
        try:
            return made, _execute(made, ownership, means, listen)
        except EntryVanished:
            continue
    raise BuildError(
        "store-unstable",
        "the store keeps losing results while they are used",
        hint="see whether another program cleans the store's folder",
    )


def _free(recipe: Recipe, options: Options, records: Records, make: _Make) -> tuple[Plan, Ownership]:
    """The plan of a build that the lock does not hold."""
    locked = _locked(recipe, options)
    return make(locked), Ownership(records, locked, options.force)


def _held(recipe: Recipe, options: Options, records: Records, make: _Make) -> tuple[Plan, Ownership]:
    """The plan of a build that is what the lock describes; else raises, before any work."""
    path = locate(recipe, options.lock)
    lock, folder = required(path), recipe_folder(recipe)
    locked = locked_view(lock, folder)
    made = make(locked)
    drift(lock, made).refuse(str(path), any_profile=options.any_profile)
    right = replace(locked, outputs=right_outputs(lock, made))
    if right.outputs != locked.outputs:  # under another root, or by another torch or device
        made = make(right)
    promised = {} if options.any_profile else {path: sha256 for path, (sha256, _) in right.outputs.items()}
    ownership = Ownership(records, right, options.force, promised)
    ownership.check_promised(output.output for output in made.outputs if output not in made.pending)
    return made, ownership


def _check_targets(made: Plan, ownership: Ownership) -> None:
    """Refuse, before any work, to replace what is not ours; all such outputs at once."""
    errors: list[LorapipeError] = []
    for step in made.pending:
        assert step.output is not None
        assert isinstance(step.spec, FileSpec)
        try:
            ownership.check(step.output, step.spec)
        except BuildError as error:
            errors.append(error.located(where=step.step.places["to"], step=step.step.id))
    if errors:
        raise ManyErrors(errors)


def _execute(made: Plan, ownership: Ownership, means: Means, listen: Listener) -> Mapping[str, BuiltOutput]:
    if not made.pending:
        return {}
    # Imported here: a build with nothing to do answers before torch would be loaded.
    from lorapipe.build.executor import execute

    with ownership.records.hashing(made) as beside:

        def told(event: Event) -> None:
            beside.look()  # an input that is another is no use to work on with
            listen(event)

        outputs = execute(made, ownership, means, told)
    return {output.step: output for output in outputs}


def _locked(recipe: Recipe, options: Options) -> Locked:
    return locked_view(read(locate(recipe, options.lock)), recipe_folder(recipe))


_Make = Callable[[Locked], Plan]


def _plan(recipe: Recipe, options: Options, records: Records, locked: Locked, *, read: bool) -> Plan:
    named = os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)
    models = (*options.models, *(Path(folder) for folder in named if folder))
    folders = Folders(recipe_folder(recipe), models, options.output_root)
    device, assume = options.device, options.frozen
    return make_plan(recipe, folders, records, locked, device=device, read=read, assume=assume)


def recipe_folder(recipe: Recipe) -> Path:
    """The folder that the recipe's relative paths start from: absolute, without links.

    A recipe that is itself a link counts where the link is.
    """
    return Path(recipe.file).parent.resolve()


def _output(
    made: Plan, step: PlannedStep, written: Mapping[str, BuiltOutput], records: Records
) -> BuiltOutput:
    """An output that was written, or that was up to date by the journal or the lock."""
    if step.step.id in written:
        return written[step.step.id]
    assert step.output is not None
    assert step.key is not None
    sha256 = records.digests.hash(step.output)
    records.adopt(step.output, sha256, step.key, lambda: Results(records, made).making(step))
    size = folder_size(step.output) if step.output.is_dir() else step.output.stat().st_size
    return BuiltOutput(step.step.id, step.output, sha256, size, written=False)


def _hashing(listen: Listener) -> HashProgress:
    return lambda path, done, total: listen(Hashing(path, done, total))
