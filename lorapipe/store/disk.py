"""What outputs ask of the disk: room, folders, writes that name their fault, names that last."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lorapipe.errors import BuildError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "Disk",
    "GuardedFile",
    "ensure_space",
    "make_folders",
    "missing_folders",
    "remove_folders",
    "sync_folder",
]


_HINT = "free some space and run again"


class Disk:
    """The disk as one output sees it: ``path`` is where it goes, ``written`` its bytes so far.

    ``needed`` is the size that it will have, in bytes, where that is known; ``hint`` what to do
    when it is full.
    """

    def __init__(self, path: Path, needed: int | None) -> None:
        self.path = path
        self.written = 0
        self.hint = _HINT
        self._needed = needed

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Name the fault when the disk refuses.

        Raises :class:`~lorapipe.errors.BuildError` ``disk-full`` or ``output-unwritable``.
        """
        try:
            yield
        except OSError as error:
            raise self._fault(error) from error

    def _fault(self, error: OSError) -> BuildError:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return BuildError(
                "output-unwritable", f"{self.path} cannot be written: {error.strerror or error}"
            )
        if self._needed is not None:
            return _disk_full(self.path, f"{self._needed:,} bytes needed", self.hint)
        return _disk_full(self.path, f"{self.written:,} bytes were written", self.hint)


class GuardedFile(io.FileIO):
    """A file being written; ``guard`` surrounds each write to the kernel, ``disk`` counts it."""

    def __init__(self, fd: int, guard: Callable[[], AbstractContextManager[None]], disk: Disk) -> None:
        super().__init__(fd, "wb", closefd=True)
        self._guard = guard
        self._disk = disk

    def write(self, data: Buffer, /) -> int:
        with self._guard():
            count = super().write(data)
        self._disk.written += count
        return count


def ensure_space(path: Path, needed: int) -> None:
    """Raise :class:`~lorapipe.errors.BuildError` ``disk-full`` if ``path``'s disk lacks ``needed`` bytes."""
    free = _free(path)
    if free is not None and free < needed:
        raise _disk_full(path, f"{needed:,} bytes needed, {free:,} free")


def make_folders(folder: Path) -> tuple[Path, ...]:
    """Make ``folder`` and what lies above it; returns those that were not there, innermost first."""
    missing = missing_folders(folder)
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)
    return missing


def missing_folders(folder: Path) -> tuple[Path, ...]:
    """What is not there of ``folder`` and what lies above it, innermost first."""
    missing = []
    above = folder
    while not above.exists():
        missing.append(above)
        above = above.parent
    return tuple(missing)


def remove_folders(made: Iterable[Path]) -> None:
    """Remove folders that :func:`make_folders` made, but for those in which something lies by now."""
    for folder in made:
        with suppress(OSError):
            folder.rmdir()


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk: without it a rename may be lost with the power."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network file systems do not know this call for folders; they order names themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def _disk_full(path: Path, detail: str, hint: str = _HINT) -> BuildError:
    return BuildError("disk-full", f"no space left for {path}: {detail}", hint=hint)


def _free(path: Path) -> int | None:
    """Bytes free on the disk that ``path`` is to lie on, or None if it does not say."""
    for folder in path.parents:
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return None
