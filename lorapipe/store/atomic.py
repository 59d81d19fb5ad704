"""Files that are absent, old or new, never partial.

    staged.file  --seal-->  on the disk under a hidden name  --publish-->  under its own name

Between ``seal`` and ``publish`` the caller notes in the journal what is about to appear.
A process that dies in between leaves a hidden temporary file, which
:func:`~lorapipe.store.temporaries.sweep` removes.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from lorapipe.errors import LorapipeError
from lorapipe.store.digest import FileState
from lorapipe.store.direct import writer
from lorapipe.store.disk import Disk, GuardedFile, ensure_space, make_folders, remove_folders, sync_folder
from lorapipe.store.temporaries import create_file

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BUFFER", "Hook", "Staged", "Staging", "atomic_write", "no_hook", "stage"]

Hook = Callable[[str], None]
"""Called at each point where a crash would matter, with the point's name; tests crash there.

The points of a staged file are ``created``, ``write`` (before each write to the kernel),
``seal``, ``sealed``, ``publish``, ``renamed`` and ``published``, after a label and a colon.
"""

BUFFER = 1 << 18
"""Bytes that wait for one write to the kernel."""


def no_hook(point: str) -> None:
    """Let the point pass."""


class Staging(ABC):
    """What a file and a folder share on their way: faults that are named, points of a crash, an end.

    As a context manager it is discarded unless published.
    """

    def __init__(self, path: Path, *, needed: int | None, hook: Hook, label: str) -> None:
        self.path = path
        self._disk = Disk(path, needed)
        self._hook = hook
        self._label = label
        self._published = False

    @abstractmethod
    def discard(self) -> None:
        """Remove what was not published, and the folders made for it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _at(self, point: str) -> None:
        self._hook(f"{self._label}:{point}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._disk.faults():
            self._at("write")
            yield


class Staged(Staging):
    """A file on its way to ``path``; made by :func:`stage`.

    ``file`` is where its bytes go and ``temp`` the name it has until it is published. As
    a context manager it is discarded unless published. Each method, and each write,
    raises :class:`~lorapipe.errors.BuildError` ``disk-full`` or ``output-unwritable``.
    """

    def __init__(self, path: Path, *, needed: int | None, hook: Hook, label: str) -> None:
        super().__init__(path, needed=needed, hook=hook, label=label)
        self._sealed: FileState | None = None
        with self._disk.faults():
            self._made = make_folders(path.parent)
            try:
                self.temp, fd = create_file(path.parent)
            except BaseException:
                remove_folders(self._made)
                raise
        self._raw = GuardedFile(fd, self._writing, self._disk)
        self.file: BinaryIO = writer(self._raw, needed, BUFFER)
        try:
            self._at("created")
        except BaseException:
            self.discard()
            raise

    def seal(self) -> FileState:
        """Bring all bytes to the disk; nothing may be written after it. Again: no effect."""
        if self._sealed is None:
            self._at("seal")
            with self._disk.faults():
                self.file.flush()
                os.fsync(self._raw.fileno())
                self._sealed = FileState.of(self._raw.fileno())
            self._at("sealed")
        return self._sealed

    def publish(self, to: Path | None = None) -> FileState | None:
        """Give the file its name, replacing what had it: ``to``, else ``path``.

        Returns the published file's state, or None if another program wrote to it
        meanwhile. A symbolic link at the target is replaced, not followed.
        """
        sealed = self.seal()
        target = self.path if to is None else to
        self._at("publish")
        with self._disk.faults():
            made = make_folders(target.parent)
            try:
                self.temp.replace(target)
            except BaseException:
                remove_folders(made)
                raise
            self._published = True
            self._at("renamed")
            sync_folder(target.parent)
            state = FileState.of(self._raw.fileno())
            self.file.close()
        self._at("published")
        same = (state.size, state.mtime_ns) == (sealed.size, sealed.mtime_ns)
        return state if same else None

    def discard(self) -> None:
        """Remove the temporary file and the folders made for it. Once published: only close."""
        try:
            # Closing flushes what is buffered, to a disk that may be full.
            with suppress(OSError, LorapipeError):
                self.file.close()
        finally:  # even if Ctrl-C is pressed again meanwhile
            if not self._published:
                with suppress(OSError):
                    self.temp.unlink()
                remove_folders(self._made)


def stage(path: Path, *, needed: int | None = None, hook: Hook = no_hook, label: str = "output") -> Staged:
    """Open a temporary file beside ``path``, in folders made as needed.

    ``needed`` is the size it will have, in bytes, where that is known: a disk with less
    space than that is found full before the work. Raises
    :class:`~lorapipe.errors.BuildError` ``disk-full`` or ``output-unwritable``.
    """
    if needed is not None:
        ensure_space(path, needed)
    return Staged(path, needed=needed, hook=hook, label=label)


@contextmanager
def atomic_write(
    path: Path, *, needed: int | None = None, hook: Hook = no_hook, label: str = "output"
) -> Iterator[BinaryIO]:
    """A file that replaces ``path`` when the context ends well, and leaves no trace otherwise."""
    with stage(path, needed=needed, hook=hook, label=label) as staged:
        yield staged.file
        staged.publish()
