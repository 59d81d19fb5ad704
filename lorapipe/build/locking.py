"""The lock file of a recipe: what a build read and made, and with what numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from lorapipe.build.result import BuiltOutput
from lorapipe.plan.make import Locked
from lorapipe.plan.plan import Plan
from lorapipe.recipe.model import Recipe
from lorapipe.store.digest import sha256_file
from lorapipe.store.lockfile import LockedInput, LockedOutput, LockedStep, LockFile, lock_path, read, relative
from lorapipe.version import __version__

__all__ = ["locate", "lock_of", "locked_view"]


def locate(recipe: Recipe, given: Path | None) -> Path:
    """The path of the recipe's lock, absolute: beside the recipe unless ``given``."""
    return Path(os.path.abspath(given if given is not None else lock_path(Path(recipe.file))))  # noqa: PTH100  # links stay


def locked_view(path: Path, folder: Path) -> Locked:
    """What a plan uses of the lock at ``path``; nothing when there is none.

    ``folder`` is the recipe's, from which the paths in a lock start. Raises
    :class:`~lorapipe.errors.LockError` when the file is not a lock.
    """
    lock = read(path)
    if lock is None:
        return Locked()
    outputs = {Path(os.path.normpath(folder / o.path)): (o.sha256, o.key) for o in lock.outputs.values()}
    device = lock.profile.get("device")
    return Locked(
        inputs={step: locked.sha256 for step, locked in lock.inputs.items()},
        outputs=outputs,
        device=device if isinstance(device, str) else None,
    )


def lock_of(plan: Plan, outputs: Iterable[BuiltOutput], folder: Path) -> LockFile:
    """The lock of a finished build; paths are relative to the recipe's ``folder``."""
    inputs, steps = {}, {}
    for name, planned in plan.steps.items():
        source = planned.source
        if source is not None and source.sha256 is not None:
            inputs[name] = LockedInput(relative(source.path, folder), source.sha256, source.size)
        if planned.key is not None:
            steps[name] = LockedStep(planned.step.kind, planned.kind.version, planned.key)
    made = {}
    for output in outputs:
        key = plan.steps[output.step].key
        assert key is not None, "inputs are hashed before a build, so every output has a key"
        made[output.step] = LockedOutput(relative(output.path, folder), output.sha256, output.size, key)
    return LockFile(
        recipe=sha256_file(Path(plan.recipe.file)),
        lorapipe=__version__,
        params=plan.recipe.params,
        profile=plan.profile.as_json(),
        inputs=inputs,
        steps=steps,
        outputs=made,
    )
