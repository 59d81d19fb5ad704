"""Files that are absent, old or new, never partial.

    staged.file  --seal-->  on the disk under a hidden name  --publish-->  under its own name

Between ``seal`` and ``publish`` the caller notes in the journal what is about to appear.
A process that dies in between leaves a hidden temporary file, which :func:`sweep` removes.

The temporary file lies in the target's folder, since a rename is atomic only within a
file system, and its writer holds a kernel lock on it: that, beside the process id in its
name, tells :func:`sweep` that a file is still being written, be it from another container.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from lorapipe.errors import BuildError, LorapipeError
from lorapipe.store.digest import FileState

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

__all__ = ["Hook", "Staged", "atomic_write", "ensure_space", "stage", "sweep"]

Hook = Callable[[str], None]
"""Called at each point where a crash would matter, with the point's name; tests crash there.

The points of a staged file are ``created``, ``write`` (before each write to the kernel),
``seal``, ``sealed``, ``publish``, ``renamed`` and ``published``, after a label and a colon.
"""

_BUFFER = 1 << 18
_TEMP = re.compile(r"\.lorapipe-(?P<pid>[0-9]+)-[0-9a-f]{16}\.tmp")


def _ignore(point: str) -> None:
    pass


class _Raw(io.FileIO):
    """The temporary file; ``guard`` surrounds each write to the kernel."""

    def __init__(self, fd: int, guard: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__(fd, "wb", closefd=True)
        self._guard = guard
        self.written = 0

    def write(self, data: Buffer, /) -> int:
        with self._guard():
            count = super().write(data)
        self.written += count
        return count


class Staged:
    """A file on its way to ``path``; made by :func:`stage`.

    ``file`` is where its bytes go and ``temp`` the name it has until it is published. As
    a context manager it is discarded unless published. Each method, and each write,
    raises :class:`~lorapipe.errors.BuildError` ``disk-full`` or ``output-unwritable``.
    """

    def __init__(self, path: Path, *, needed: int | None, hook: Hook, label: str) -> None:
        self.path = path
        self._needed = needed
        self._hook = hook
        self._label = label
        self._published = False
        self._sealed: FileState | None = None
        with self._disk():
            self._made = _make_folders(path.parent)
            try:
                self.temp, fd = _create(path.parent)
            except BaseException:
                _remove_folders(self._made)
                raise
        self._raw = _Raw(fd, self._writing)
        self.file: BinaryIO = io.BufferedWriter(self._raw, _BUFFER)
        try:
            self._at("created")
        except BaseException:
            self.discard()
            raise

    def seal(self) -> FileState:
        """Bring all bytes to the disk; nothing may be written after it. Again: no effect."""
        if self._sealed is None:
            self._at("seal")
            with self._disk():
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
        with self._disk():
            made = _make_folders(target.parent)
            try:
                self.temp.replace(target)
            except BaseException:
                _remove_folders(made)
                raise
            self._published = True
            self._at("renamed")
            _sync_folder(target.parent)
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
                _remove_folders(self._made)

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
        with self._disk():
            self._at("write")
            yield

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Name the fault when the disk refuses."""
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
            return _disk_full(self.path, f"{self._needed:,} bytes needed")
        return _disk_full(self.path, f"{self._raw.written:,} bytes were written")


def stage(path: Path, *, needed: int | None = None, hook: Hook = _ignore, label: str = "output") -> Staged:
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
    path: Path, *, needed: int | None = None, hook: Hook = _ignore, label: str = "output"
) -> Iterator[BinaryIO]:
    """A file that replaces ``path`` when the context ends well, and leaves no trace otherwise."""
    with stage(path, needed=needed, hook=hook, label=label) as staged:
        yield staged.file
        staged.publish()


def ensure_space(path: Path, needed: int) -> None:
    """Raise :class:`~lorapipe.errors.BuildError` ``disk-full`` if ``path``'s disk lacks ``needed`` bytes."""
    free = _free(path)
    if free is not None and free < needed:
        raise _disk_full(path, f"{needed:,} bytes needed, {free:,} free")


def sweep(folder: Path) -> tuple[Path, ...]:
    """Remove the temporary files that dead processes left in ``folder``, and name them.

    Other files, files of living processes and files that cannot be removed stay.
    """
    removed = []
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            found = _TEMP.fullmatch(path.name)
            if found is not None and not _alive(int(found["pid"])) and _abandoned(path):
                with suppress(OSError):
                    path.unlink()
                    removed.append(path)
    return tuple(removed)


def _create(folder: Path) -> tuple[Path, int]:
    path = folder / f".lorapipe-{os.getpid()}-{os.urandom(8).hex()}.tmp"
    # 0o666 is what the umask is taken from; O_EXCL refuses a link that someone put there.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    # Without kernel locks on this file system the process id in the name has to do.
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return path, fd


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it is there, and another user's
    return True


def _abandoned(path: Path) -> bool:
    """Whether no process, in this container or another, holds the file's lock."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(fd)
    return True


def _make_folders(folder: Path) -> tuple[Path, ...]:
    """Make ``folder`` and what lies above it; returns those that were not there, innermost first."""
    missing = []
    above = folder
    while not above.exists():
        missing.append(above)
        above = above.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)
    return tuple(missing)


def _remove_folders(made: tuple[Path, ...]) -> None:
    for folder in made:
        with suppress(OSError):  # something else lies there by now
            folder.rmdir()


def _sync_folder(folder: Path) -> None:
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


def _disk_full(path: Path, detail: str) -> BuildError:
    return BuildError(
        "disk-full", f"no space left for {path}: {detail}", hint="free some space and run again"
    )


def _free(path: Path) -> int | None:
    """Bytes free on the disk that ``path`` is to lie on, or None if it does not say."""
    for folder in path.parents:
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return None
