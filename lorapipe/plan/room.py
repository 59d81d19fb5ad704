"""Whether the disks have room for what a run would write: known before any work."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lorapipe.plan.plan import PlannedStep
from lorapipe.remote.url import Url
from lorapipe.store.contents import folder_size
from lorapipe.weights.specs import FileSpec

__all__ = ["Beside", "Shortage", "shortages"]


_BLOCK = 512
"""Bytes of what ``st_blocks`` counts."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A disk that is too small: a folder on it, the bytes it would need, and those it has."""

    folder: Path
    needed: int
    free: int


@dataclass(frozen=True, slots=True)
class Beside:
    """Bytes that go to ``folder`` before the outputs do: those the build needs, those it can do without."""

    folder: Path
    needed: int = 0
    wanted: int = 0


@dataclass(slots=True)
class _Disk:
    """``taken`` as the build goes on, ``most`` at any time; without room at ``must`` there is no build."""

    folder: Path
    taken: int = 0
    most: int = 0
    must: Path | None = None


def _nothing(step: PlannedStep) -> int:  # noqa: ARG001  # what is told to the caller's
    return 0


def shortages(
    outputs: Iterable[PlannedStep],
    beside: Beside | None = None,
    finished: Callable[[PlannedStep], int] = _nothing,
) -> tuple[Shortage, ...]:
    """The disks that cannot hold the ``outputs``, written one after the other.

    Each is written beside the one it replaces, which then goes. ``finished`` are the bytes of an
    output that an interrupted build has left. A disk that does not tell its size is none of them.
    """
    disks: dict[int, _Disk] = {}
    if beside is not None:
        disk = _disk_of(beside.folder, disks)
        disk.taken = disk.most = beside.needed + beside.wanted
        disk.must = disk.folder if beside.needed else None
    for step in outputs:
        assert step.output is not None
        assert isinstance(step.spec, FileSpec)
        if isinstance(step.output, Url):
            continue  # nobody tells how much a store of objects has
        folder = _existing(step.output.parent)
        disk = _disk_of(folder, disks)
        disk.must = disk.must or folder
        new = step.spec.nbytes - finished(step)
        disk.most = max(disk.most, disk.taken + new)
        disk.taken += new - _present(step.output)
    found = (Shortage(disk.must, disk.most, _free(disk.must)) for disk in disks.values() if disk.must)
    return tuple(short for short in found if short.free < short.needed)


def _disk_of(folder: Path, disks: dict[int, _Disk]) -> _Disk:
    there = _existing(folder)
    return disks.setdefault(there.stat().st_dev, _Disk(there))


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _present(output: Path) -> int:
    """The bytes that come free when an output is replaced."""
    try:
        if output.is_dir() and not output.is_symlink():
            return folder_size(output)
        found = output.lstat()
    except OSError:
        return 0
    return found.st_blocks * _BLOCK if found.st_nlink == 1 else 0


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return sys.maxsize  # it does not say
