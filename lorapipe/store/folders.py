"""Folders that are absent, old or new, never partial.

    staged.create  --seal-->  on the disk in a hidden folder  --publish-->  under its own name

A rename does not replace a folder that holds something. So the old one is moved aside first and
removed after: a process that dies in between leaves it under a hidden name, from which
:func:`~lorapipe.store.temporaries.sweep` puts it back, or removes it where the new one is in place.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from lorapipe.errors import LorapipeError
from lorapipe.store.atomic import BUFFER, Hook, Staging, no_hook
from lorapipe.store.digest import FileState
from lorapipe.store.direct import writer
from lorapipe.store.disk import GuardedFile, ensure_space, make_folders, remove_folders, sync_folder
from lorapipe.store.temporaries import create_folder, put_back, set_aside, throw_away

__all__ = ["StagedFolder", "stage_folder"]

_TAKEN = 5
"""Times that the target is set aside anew: another build may take the name just now."""


class StagedFolder(Staging):
    """A folder on its way to ``path``; made by :func:`stage_folder`.

    ``temp`` is the name it has until it is published. As a context manager it is discarded
    unless published. Its points are those of a staged file (:data:`~.atomic.Hook`) and
    ``aside``: the old folder has lost its name, the new one has not got it. Each method, and
    each write, raises :class:`~lorapipe.errors.BuildError` ``disk-full`` or ``output-unwritable``.
    """

    def __init__(self, path: Path, *, needed: int | None, hook: Hook, label: str) -> None:
        super().__init__(path, needed=needed, hook=hook, label=label)
        self._sealed = False
        self._states: dict[str, FileState] = {}
        self._open: tuple[str, GuardedFile, BinaryIO] | None = None
        self._aside: tuple[Path, int] | None = None
        with self._disk.faults():
            self._made = make_folders(path.parent)
            try:
                self.temp, self._held = create_folder(path.parent)
            except BaseException:
                remove_folders(self._made)
                raise
        try:
            self._at("created")
        except BaseException:
            self.discard()
            raise

    def create(self, name: str, size: int | None = None) -> BinaryIO:
        """Open a new file of the folder, in sub-folders made as needed; the one before it is finished.

        ``name`` is relative and has forward slashes; ``size`` is about what the file will have,
        in bytes, where that is known.
        """
        self._finish()
        path = self.temp / name
        with self._disk.faults():
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        raw = GuardedFile(fd, self._writing, self._disk)
        file = writer(raw, size, BUFFER)
        self._open = (name, raw, file)
        return file

    def seal(self) -> Mapping[str, FileState]:
        """Bring all files to the disk, and return their states by name. Again: no effect."""
        if not self._sealed:
            self._at("seal")
            self._finish()
            with self._disk.faults():
                inner = sorted({self.temp / parent for name in self._states for parent in Path(name).parents})
                for folder in reversed(inner):
                    sync_folder(folder)
            self._sealed = True
            self._at("sealed")
        return MappingProxyType(self._states)

    def publish(self) -> Mapping[str, FileState]:
        """Give the folder its name, replacing what had it; returns the states of its files by name.

        A symbolic link at the target is replaced, not followed.
        """
        states = self.seal()
        self._at("publish")
        with self._disk.faults():
            self._take_name()
            self._at("renamed")
            sync_folder(self.path.parent)
        self._drop_aside()
        self._at("published")
        return states

    def discard(self) -> None:
        """Remove the hidden folder and the folders made for it. Once published: only what it replaced."""
        try:
            # Closing flushes what is buffered, to a disk that may be full.
            with suppress(OSError, LorapipeError):
                if self._open is not None:
                    self._open[2].close()
        finally:  # even if Ctrl-C is pressed again meanwhile
            self._drop_aside()
            if not self._published:
                throw_away(self.temp)
                remove_folders(self._made)
            self._held = _closed(self._held)

    def _finish(self) -> None:
        """Bring the file that is open to the disk."""
        if self._open is None:
            return
        name, raw, file = self._open
        with self._disk.faults():
            file.flush()
            os.fsync(raw.fileno())
            self._states[name] = FileState.of(raw.fileno())
            file.close()
        self._open = None

    def _take_name(self) -> None:
        """Rename the folder to its target, and set aside what is there; :meth:`discard` undoes that."""
        for left in reversed(range(_TAKEN)):
            self._aside = set_aside(self.path)
            if self._aside is not None:
                self._at("aside")
            try:
                self.temp.rename(self.path)
            except OSError as error:
                if not left or error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                self._drop_aside()
            else:
                self._published = True
                return

    def _drop_aside(self) -> None:
        """Give what was set aside its name back, or remove it where something has the name."""
        if self._aside is not None:
            aside, held = self._aside
            self._aside = None
            with suppress(OSError):
                put_back(aside)
            os.close(held)


def stage_folder(
    path: Path, *, needed: int | None = None, hook: Hook = no_hook, label: str = "output"
) -> StagedFolder:
    """Make a hidden folder beside ``path``, in folders made as needed.

    ``needed`` is the size it will have: see :func:`~lorapipe.store.atomic.stage`, which raises the same.
    """
    if needed is not None:
        ensure_space(path, needed)
    return StagedFolder(path, needed=needed, hook=hook, label=label)


def _closed(fd: int) -> int:
    if fd >= 0:
        os.close(fd)
    return -1
