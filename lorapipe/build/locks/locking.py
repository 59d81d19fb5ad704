"""The lock file of a recipe: what a build read and made, and with what numbers."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lorapipe.build.locks.drift import locked_step
from lorapipe.build.result import BuiltOutput
from lorapipe.errors import LockError, LorapipeError
from lorapipe.plan.files import InputFile
from lorapipe.plan.make import Locked
from lorapipe.plan.plan import Plan, PlannedStep
from lorapipe.plan.provenance import source_date
from lorapipe.recipe.model import Recipe
from lorapipe.remote.url import Location, Url, is_url, parse_url
from lorapipe.store.lockfile import LockedInput, LockedOutput, LockFile, lock_path, read, relative
from lorapipe.version import __version__

__all__ = ["locate", "lock_of", "locked_input", "locked_view", "required", "right_outputs"]


_DEVICES = ("cpu", "cuda", "mps")
"""Device types that a plan may be asked to keep to; a stranger's lock may hold anything."""


def locate(recipe: Recipe, given: Path | None) -> Path:
    """The path of the recipe's lock, absolute: beside the recipe unless ``given``."""
    return Path(os.path.abspath(given if given is not None else lock_path(Path(recipe.file))))  # noqa: PTH100  # links stay


def locked_view(lock: LockFile | None, folder: Path) -> Locked:
    """What a plan uses of a lock; nothing when there is none.

    ``folder`` is the recipe's, from which the paths in a lock start.
    """
    if lock is None:
        return Locked()
    outputs = {_place(output.path, folder): output for output in lock.outputs.values()}
    device = lock.profile.get("device")
    return Locked(
        inputs={step: locked.sha256 for step, locked in lock.inputs.items()},
        elsewhere={step: locked for step, locked in lock.inputs.items() if is_url(locked.path)},
        outputs={place: (locked.sha256, locked.key) for place, locked in outputs.items()},
        marks={place: locked for place, locked in outputs.items() if isinstance(place, Url)},
        device=device if device in _DEVICES else None,
    )


def _place(path: str, folder: Path) -> Location:
    """Where an output of a lock is; a stranger's URL that is none is taken for a name, which nothing has."""
    if is_url(path):
        with suppress(LorapipeError):
            return parse_url(path)
    return Path(os.path.normpath(folder / path))


def required(path: Path) -> LockFile:
    """The lock at ``path``, of which there has to be one.

    Raises :class:`~lorapipe.errors.LockError` ``lock-missing``, or what
    :func:`~lorapipe.store.lockfile.read` raises.
    """
    lock = read(path)
    if lock is None:
        raise LockError("lock-missing", "there is no lock", hint="'lorapipe lock' writes it", where=str(path))
    return lock


def right_outputs(lock: LockFile, plan: Plan) -> dict[Location, tuple[str, str]]:
    """What the outputs of a plan are by its lock, wherever they go: path to (sha256, the plan's key).

    The plan is what the lock describes, if perhaps by another torch or device.
    """
    right: dict[Location, tuple[str, str]] = {}
    for planned in plan.outputs:
        locked, step = lock.outputs.get(planned.step.id), lock.steps[planned.step.id]
        if locked is not None and locked.key == step.key:  # else it was locked, and not built since
            assert planned.output is not None
            assert planned.key is not None
            right[planned.output] = (locked.sha256, planned.key)
    return right


def lock_of(
    plan: Plan, outputs: Iterable[BuiltOutput], folder: Path, before: LockFile | None = None
) -> LockFile:
    """The lock of a plan whose inputs are hashed, with the ``outputs`` that are in place.

    Paths are relative to the recipe's ``folder``. Of an output that is not in place stays what
    the lock ``before`` says, where it was made of the same key; else it has no block. A step that is
    left out of the plan has its blocks, too; where nothing can be told of it, those of ``before``.
    """
    steps = {**plan.left_out, **plan.steps}
    untold = plan.recipe.steps.keys() - steps.keys()
    inputs = {}
    for name, planned in steps.items():
        if planned.source is not None and planned.source.sha256 is not None:
            inputs[name] = locked_input(planned.source, folder)
    return LockFile(
        lorapipe=__version__,
        date=source_date(os.environ),
        params=plan.recipe.params,
        profile=plan.profile.as_json(),
        inputs=_of(untold, before, "inputs") | inputs,
        steps=_of(untold, before, "steps") | {name: locked_step(step) for name, step in steps.items()},
        outputs=_of(untold, before, "outputs") | _kept(steps, before) | dict(_made(plan, outputs, folder)),
    )


def locked_input(source: InputFile, folder: Path) -> LockedInput:
    """An input whose sha256 is known as a lock has it; its path starts from ``folder``."""
    assert source.sha256 is not None
    path = relative(source.path, folder)
    return LockedInput(path, source.sha256, source.size, source.etag, source.revision)


def _of(steps: Collection[str], before: LockFile | None, section: str) -> dict[str, Any]:
    """What the lock before says of some steps."""
    blocks: Mapping[str, Any] = {} if before is None else getattr(before, section)
    return {step: blocks[step] for step in steps if step in blocks}


def _kept(steps: Mapping[str, PlannedStep], before: LockFile | None) -> dict[str, LockedOutput]:
    """Outputs of the lock before that would be made of the same keys."""
    blocks = _of(steps.keys(), before, "outputs")
    return {step: output for step, output in blocks.items() if output.key == steps[step].key}


def _made(plan: Plan, outputs: Iterable[BuiltOutput], folder: Path) -> Iterator[tuple[str, LockedOutput]]:
    for output in outputs:
        key = plan.steps[output.step].key
        assert key is not None, "inputs are hashed before a lock is written, so every output has a key"
        where = relative(output.path, folder)
        yield output.step, LockedOutput(where, output.sha256, output.size, key, output.etag)
