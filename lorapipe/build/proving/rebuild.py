"""``lorapipe verify --rebuild``: whether the recipe makes again what the lock says it made."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from lorapipe.build.events import Listener
from lorapipe.build.locks.drift import drift
from lorapipe.build.locks.locking import locate, required
from lorapipe.build.planning import Options, outputs_folder, unheard
from lorapipe.build.proving.comparing import Comparison, compare
from lorapipe.build.proving.verify import State, Verified
from lorapipe.build.result import BuiltOutput
from lorapipe.build.run import build
from lorapipe.errors import CheckFailed
from lorapipe.recipe.model import Recipe
from lorapipe.store.disk import Disk
from lorapipe.store.temporaries import create_folder, sweep, throw_away

__all__ = ["Again", "Rebuilt", "Remade", "rebuild", "require_rebuilt"]


class Again(Enum):
    """How an output came out the second time."""

    SAME = "same bytes"
    SAME_NUMBERS = "same numbers"
    """Every tensor has the same bits; what else is in the file is not the same."""
    OTHER = "other bytes"


@dataclass(frozen=True, slots=True)
class Remade:
    """An output built again: its sha256, and if that is not the lock's, what is otherwise.

    The ``comparison`` is with the file in place, where there is one.
    """

    before: Verified
    sha256: str
    again: Again
    comparison: Comparison | None


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """All outputs built again; ``machine`` is what torch and device were for the lock and are here."""

    outputs: tuple[Remade, ...]
    machine: tuple[str, ...]


def rebuild(
    recipe: Recipe, options: Options, verified: Iterable[Verified], *, listen: Listener = unheard
) -> Rebuilt:
    """Build all outputs again from the inputs alone, in a folder that is removed, and compare.

    ``verified`` is what :func:`~lorapipe.build.proving.verify.verify` found. The folder lies beside the
    outputs, where there is room for such, or with the system's temporary files where these cannot
    be written; the store in it is new, so that nothing made before is used. Torch and device may
    be others than the lock's, the rest may not. Raises as a build that is held to the lock.
    """
    before = {output.step: output for output in verified}
    lock_path, root = locate(recipe, options.lock), outputs_folder(recipe, options)
    with _scratch(root) as scratch:
        again = replace(
            options,
            output_root=scratch / "outputs",
            store=scratch / "store",
            shared_store=None,
            lock=lock_path,
            frozen=True,
            any_profile=True,
        )
        built = build(recipe, again, listen=listen)
        outputs = tuple(_remade(before[output.step], output) for output in built.outputs)
    return Rebuilt(outputs, drift(required(lock_path), built.plan).machine)


def require_rebuilt(rebuilt: Rebuilt) -> None:
    """Raise :class:`~lorapipe.errors.CheckFailed` ``not-reproduced`` unless all came out as they were.

    The same numbers will do where torch or device are others, since the file names them. A file
    in place that is none of the lock's is wrong; one that is missing is not, for it was made again.
    """
    bad = [
        f"{output.before.step}: {output.again.value}"
        for output in rebuilt.outputs
        if output.again is Again.OTHER or (output.again is Again.SAME_NUMBERS and not rebuilt.machine)
    ]
    bad += [
        f"{output.before.step}: the file in place was changed"
        for output in rebuilt.outputs
        if output.before.state is State.CHANGED
    ]
    if bad:
        raise CheckFailed("not-reproduced", "built again, outputs are not what the lock says", details=bad)


def _remade(before: Verified, output: BuiltOutput) -> Remade:
    wanted = before.locked.sha256 if before.locked is not None else before.sha256
    if output.sha256 == wanted:
        return Remade(before, output.sha256, Again.SAME, None)
    comparison = compare(before.path, output.path) if before.sha256 is not None else None
    same = comparison is not None and comparison.same_numbers
    return Remade(before, output.sha256, Again.SAME_NUMBERS if same else Again.OTHER, comparison)


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    """A hidden folder that goes when the context ends, or with the next build after a crash."""
    folder = next(path for path in (beside, *beside.parents) if path.is_dir())
    if not os.access(folder, os.W_OK):
        folder = Path(tempfile.gettempdir())  # what is only kept can be verified, too
    sweep(folder)
    with Disk(folder, None).faults():
        scratch, held = create_folder(folder)
    try:
        yield scratch
    finally:
        throw_away(scratch)
        os.close(held)
