"""One build from beginning to end: plan, refuse what must not be, execute, lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lorapipe.build.choice import engine_of, machine_of
from lorapipe.build.engines.threads import default_workers, importing
from lorapipe.build.events import (
    Event,
    Hashing,
    Listener,
    OutputReady,
    Planned,
    Sharing,
    Swept,
    Warned,
    one_at_a_time,
)
from lorapipe.build.locks.locking import locate, lock_of
from lorapipe.build.noted import noting
from lorapipe.build.ownership import Ownership
from lorapipe.build.planning import (
    MODELS_VARIABLE,
    Options,
    hashing,
    plan,
    plan_free,
    plan_held,
    recipe_folder,
    unheard,
)
from lorapipe.build.records import EntryVanished, Records
from lorapipe.build.result import Built, BuiltOutput, Done
from lorapipe.build.running.means import Means
from lorapipe.build.running.results import Results
from lorapipe.build.running.room import check_reach, check_room
from lorapipe.build.sweeping import built_sweep
from lorapipe.errors import BuildError, Interrupted, LorapipeError, ManyErrors, gathered
from lorapipe.plan.checks import foretold_failures
from lorapipe.plan.plan import Plan, PlannedStep
from lorapipe.plan.resolve import by_place
from lorapipe.recipe.model import Recipe
from lorapipe.store.atomic import Hook, stage
from lorapipe.store.disk import missing_folders, remove_folders
from lorapipe.store.lockfile import read, write
from lorapipe.store.temporaries import sweep, sweep_parts
from lorapipe.weights.specs import FileSpec

__all__ = [
    "MODELS_VARIABLE",
    "Options",
    "build",
    "found_output",
    "loading_meanwhile",
    "plan",
    "recipe_folder",
]

_ATTEMPTS = 3
"""Plans made anew when the store loses an entry that the plan counted on."""

_LONG = 1 << 30
"""Bytes of an input that take as long to hash as torch takes to load."""


_DEFAULTS = Options()


def _no_hook(point: str) -> None:
    pass


def build(
    recipe: Recipe, options: Options = _DEFAULTS, *, listen: Listener = unheard, hook: Hook = _no_hook
) -> Built:
    """Make every output of the recipe that is not up to date.

    ``hook`` is called at each point where a crash would matter. Raises
    :class:`~lorapipe.errors.ManyErrors` with all that the plan finds wrong,
    :class:`~lorapipe.errors.LockError` where the build is held to a lock that describes another,
    :class:`~lorapipe.errors.BuildError` for what goes wrong after it, and, when all that no check
    holds back is made, :class:`~lorapipe.errors.CheckFailed` for each assertion that does not hold.
    """
    started = time.monotonic()
    listen = one_at_a_time(listen)  # tasks tell, who hashes on the way, and the main thread
    progress = hashing(loading_meanwhile(listen))
    notes: dict[str, dict[str, object]] = {}
    with Records(looking=False, progress=progress, hook=hook, root=options.places) as records:
        try:
            made, done = _attempt(recipe, options, records, noting(listen, notes))
        except LorapipeError as error:
            if not isinstance(error, Interrupted):
                _give(records, listen)  # what was made before it is of use to others
            raise
        written = {output.step: output for output in done.written}
        current = {step.step.id for step in made.current}
        outputs = tuple(
            written.get(step.step.id) or _found(made, step, records, listen)
            for step in made.outputs
            if step.step.id in written or step.step.id in current
        )
        _lock(recipe, options, made, outputs, done)
        _share(records, made, listen)
        variants = built_sweep(made, outputs, done.steps, notes, records)
    if variants is not None:
        listen(Swept(variants))
    if done.failed:
        raise gathered(done.failed)
    return Built(made, outputs, done.steps, time.monotonic() - started, variants)


def _lock(recipe: Recipe, options: Options, made: Plan, outputs: tuple[BuiltOutput, ...], done: Done) -> None:
    """Clear away what was left beside the outputs, and write the lock."""
    lock = locate(recipe, options.lock)
    here = [output.path for output in outputs if isinstance(output.path, Path)]
    for folder in {lock.parent, *(path.parent for path in here)}:
        sweep(folder)
    for path in here:
        sweep_parts(path)
    if not options.held:
        # Of what is held back or left out stays what the lock has.
        before = read(lock) if done.failed or options.only else None
        write(lock, lock_of(made, outputs, recipe_folder(recipe), before))


def _share(records: Records, made: Plan, listen: Listener) -> None:
    """Wait until the shared store has what was made; tell what it did not do as it should."""
    _give(records, listen)
    for trouble in records.sharing.troubles:
        if trouble not in made.warnings:
            listen(Warned(trouble))


def _give(records: Records, listen: Listener) -> None:
    records.sharing.finish(lambda done, total: listen(Sharing(done, total)))


def loading_meanwhile(
    listen: Listener, load: Callable[[str], object] = importing, least: int = _LONG
) -> Listener:
    """``listen``, with torch loaded beside the hashing of a large input.

    An input of unknown digest was not built with yet, so that there will be work for torch.
    """
    begun = False

    def told(event: Event) -> None:
        nonlocal begun
        if not begun and isinstance(event, Hashing) and event.total >= least:
            begun = True
            load("torch")
        listen(event)

    return told


def _found(made: Plan, step: PlannedStep, records: Records, listen: Listener) -> BuiltOutput:
    output = found_output(made, step, records)
    listen(OutputReady(output.step, output.path, output.sha256, output.size, written=False))
    return output


def _attempt(recipe: Recipe, options: Options, records: Records, listen: Listener) -> tuple[Plan, Done]:
    plan_it, machine = plan_held if options.held else plan_free, machine_of(options, recipe)
    lost = 0
    while lost < _ATTEMPTS:
        records.halt.forget()
        made, ownership = plan_it(recipe, options, records, machine)
        listen(Planned(made))
        means = Means(options.workers or default_workers(), options.memory)
        means.check(made)
        _check_targets(made, ownership)
        if made.schedule:
            # Both are needed when the work is done: better to know before.
            records.probe()
            check_room(made, means, records)
            check_reach(made, records)
            if not options.held:
                stage(locate(recipe, options.lock), label="lock").discard()
        try:
            with _no_folder_for_nothing(made):
                return made, _execute(made, ownership, means, options, listen)
        except EntryVanished as vanished:
            # Of what only the shared store has each is counted on once, so that this ends.
            lost += not records.sharing.give_up(made.steps.get(str(vanished)))
    raise BuildError(
        "store-unstable",
        "the store keeps losing results while they are used",
        hint="see whether another program cleans the store's folder",
    )


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


def _execute(made: Plan, ownership: Ownership, means: Means, options: Options, listen: Listener) -> Done:
    foretold = foretold_failures(made)
    if not made.schedule:
        return Done(failed=tuple(foretold))
    # Imported here: a build with nothing to do answers before torch, or a cluster, would be loaded.
    from lorapipe.build.running.executor import execute

    with ownership.records.hashing(made) as beside, engine_of(options, ownership, means) as begin:

        def told(event: Event) -> None:
            beside.look()  # an input that is another is no use to work on with
            listen(event)

        done = execute(made, begin, told)
    return replace(done, failed=tuple(sorted((*foretold, *done.failed), key=by_place)))


@contextmanager
def _no_folder_for_nothing(made: Plan) -> Iterator[None]:
    """Folders in which nothing came to lie go again, should the build fail.

    Who stages an output removes those that it made; but of two that are at work in one folder, the
    one that made it may end before the other.
    """
    above = {step.output.parent for step in made.pending if isinstance(step.output, Path)}
    missing = {folder for each in above for folder in missing_folders(each)}
    try:
        yield
    except BaseException:
        remove_folders(sorted(missing, key=lambda folder: len(folder.parts), reverse=True))
        raise


def found_output(made: Plan, step: PlannedStep, records: Records) -> BuiltOutput:
    """An output that the plan found up to date; the journal knows it from now on.

    By the digest that the plan found: another build may have replaced the file since.
    """
    assert step.output is not None
    assert step.key is not None
    assert step.present is not None
    records.adopt(step.output, step.present, step.key, lambda: Results(records, made).making(step))
    assert isinstance(step.spec, FileSpec)
    size = records.size(step.output)
    if size is None:  # another build gives the name to its own just now
        size = step.spec.nbytes
    etag = records.etag(step.output)
    return BuiltOutput(step.step.id, step.output, step.present, size, written=False, etag=etag)
