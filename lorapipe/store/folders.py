"""Folders that are absent, old or new, never partial.

    staged.create  --seal-->  on the disk in a hidden folder  --publish-->  under its own name

A folder with a :class:`Resumption` goes on where a build that was killed or interrupted stopped:
files that are *finished* stay beside the target, and the next build of the same key has them.

A rename does not replace a folder that holds something. So the old one is moved aside first and
removed after: a process that dies in between leaves it under a hidden name, from which
:func:`~lorapipe.store.temporaries.sweep` puts it back, or removes it where the new one is in place.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import BinaryIO

from lorapipe.errors import BuildError, Halted, Interrupted, LorapipeError
from lorapipe.store.atomic import BUFFER, Hook, Staging, no_hook
from lorapipe.store.contents import walk
from lorapipe.store.digest import FileState, Hashed
from lorapipe.store.direct import writer
from lorapipe.store.disk import GuardedFile, ensure_space, make_folders, remove_folders, sync_folder
from lorapipe.store.temporaries import (
    claim_part,
    create_folder,
    put_back,
    set_aside,
    sweep_parts,
    throw_away,
)

__all__ = ["Resumption", "StagedFolder", "stage_folder"]

_STOPS = (KeyboardInterrupt, Interrupted, Halted)

_TAKEN = 5
"""Times that the target is set aside anew: another build may take the name just now."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """What makes a folder's files outlive an interrupted build: the books of the one who stages it.

    ``key`` decides every byte of the folder. ``whole`` is a file's digest if the books have it
    as finished under this key and its bytes are still those, else ``None``; ``record`` enters one,
    durably; ``forget`` strikes out all that lies in a folder. Others who are at work on it are waited
    for if there is a ``waiting``, which is called meanwhile and may raise to give up.
    """

    key: str
    whole: Callable[[Path], Hashed | None]
    record: Callable[[Path, FileState, str], None]
    forget: Callable[[Path], None]
    waiting: Callable[[], None] | None = None


class StagedFolder(Staging):
    """A folder on its way to ``path``; made by :func:`stage_folder`.

    ``temp`` is the name it has until it is published, ``finished`` the files that are in it
    already. As a context manager it is discarded unless published; where what ended it was an
    interruption, or the disk, finished files stay for the next build. Its points are those of a staged file
    (:data:`~.atomic.Hook`), ``kept``: a file is finished and in the books, and ``aside``: the old
    folder has lost its name, the new one has not got it. Each method, and each write, raises
    :class:`~lorapipe.errors.BuildError` ``disk-full`` or ``output-unwritable``.
    """

    def __init__(
        self, path: Path, *, needed: int | None, hook: Hook, label: str, resumption: Resumption | None
    ) -> None:
        super().__init__(path, needed=needed, hook=hook, label=label)
        self._sealed = False
        self._states: dict[str, FileState] = {}
        self._kept: dict[str, Hashed] = {}
        self._open: tuple[str, GuardedFile, BinaryIO] | None = None
        self._aside: tuple[Path, int] | None = None
        with self._disk.faults():
            self._made = make_folders(path.parent)
            try:
                self.temp, self._held = self._take(resumption)
            except BaseException:
                remove_folders(self._made)
                raise
        try:
            self._go_on()
            if self._resumption is not None:
                self._disk.hint = "free some space and run again: what is finished of it waits there"
            if needed is not None:
                ensure_space(path, needed - sum(each.state.size for each in self._kept.values()))
            self._at("created")
        except BaseException:
            self.discard(keep=True)
            raise

    @property
    def finished(self) -> Mapping[str, Hashed]:
        """The files, by relative name, that are whole and need not be written."""
        return MappingProxyType(self._kept)

    def create(self, name: str, size: int | None = None) -> BinaryIO:
        """Open a new file of the folder, in sub-folders made as needed; the one before it is finished.

        ``name`` is relative and has forward slashes; ``size`` is about what the file will have,
        in bytes, where that is known.
        """
        self._finish()
        path = self.temp / name
        with self._disk.faults():
            if self._kept.pop(name, None) is not None or self._brought(name):
                path.unlink()
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        raw = GuardedFile(fd, self._writing, self._disk)
        file = writer(raw, size, BUFFER)
        self._open = (name, raw, file)
        return file

    def finish(self, sha256: str) -> None:
        """Bring the file that is open to the disk now, and keep it if the build is interrupted."""
        if self._open is None:
            return
        name = self._open[0]
        self._finish()
        if self._resumption is not None:
            self._resumption.record(self.temp / name, self._states[name], sha256)
            self._kept[name] = Hashed(sha256, self._states[name], time.time_ns())
        self._at("kept")

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
        self._forget()
        self._at("published")
        return states

    def discard(self, *, keep: bool = False) -> None:
        """Remove the hidden folder and the folders made for it. Once published: only what it replaced.

        With ``keep`` finished files stay in it, if there are any.
        """
        try:
            # Closing flushes what is buffered, to a disk that may be full.
            with suppress(OSError, LorapipeError):
                if self._open is not None:
                    self._open[2].close()
        finally:  # even if Ctrl-C is pressed again meanwhile
            self._drop_aside()
            if not self._published:
                if keep and self._kept:
                    self._remove_others()
                else:
                    throw_away(self.temp)
                    self._forget()
                remove_folders(self._made)
            self._held = _closed(self._held)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard(keep=isinstance(error, _STOPS) or _is_of_disk(error))

    def _take(self, resumption: Resumption | None) -> tuple[Path, int]:
        """The hidden folder: the part to go on with, or one of this process's own.

        Its own, too, where another process is at work on the part.
        """
        self._resumption = None
        if resumption is not None:
            sweep_parts(self.path, resumption.key)
            part = claim_part(self.path, resumption.key, waiting=resumption.waiting)
            if part is not None:
                self._resumption = resumption
                return part
        return create_folder(self.path.parent)

    def _go_on(self) -> None:
        """Find what is finished in a part, and remove everything else from it."""
        if self._resumption is None:
            return
        with self._disk.faults():
            for name, regular in tuple(walk(self.temp)):
                whole = self._resumption.whole(self.temp / name) if regular else None
                if whole is not None:
                    self._kept[name] = whole
                    self._states[name] = whole.state
            self._remove_others()

    def _brought(self, name: str) -> bool:
        """Whether another machine brought a file into the part, whose lock it could not see."""
        return self._resumption is not None and name not in self._states and os.path.lexists(self.temp / name)

    def _remove_others(self) -> None:
        """Remove what is not finished, and folders that hold nothing."""
        for name, _ in tuple(walk(self.temp)):
            if name not in self._kept:
                path = self.temp / name
                with suppress(OSError):
                    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
                    for above in Path(name).parents[:-1]:
                        (self.temp / above).rmdir()

    def _forget(self) -> None:
        if self._resumption is not None:
            with suppress(LorapipeError, Halted):
                self._resumption.forget(self.temp)

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
    path: Path,
    *,
    needed: int | None = None,
    hook: Hook = no_hook,
    label: str = "output",
    resumption: Resumption | None = None,
) -> StagedFolder:
    """Make a hidden folder beside ``path``, in folders made as needed, or go on with one.

    ``needed`` is the size it will have: see :func:`~lorapipe.store.atomic.stage`, which raises the
    same. Of parts of ``path`` only the one with the key of ``resumption`` stays.
    """
    return StagedFolder(path, needed=needed, hook=hook, label=label, resumption=resumption)


def _is_of_disk(error: BaseException | None) -> bool:
    """Whether the disk failed, and nothing is wrong with what it has taken."""
    return isinstance(error, BuildError) and error.code in ("disk-full", "output-unwritable")


def _closed(fd: int) -> int:
    if fd >= 0:
        os.close(fd)
    return -1
