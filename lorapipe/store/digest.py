"""sha256 of files, and the state by which a file is known again without reading it."""

from __future__ import annotations

import hashlib
import io
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lorapipe.errors import InputError
from lorapipe.store.reading import open_regular

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

__all__ = ["FileState", "Hashed", "HashingFile", "Progress", "hash_file", "is_sha256", "sha256_file"]

Progress = Callable[[int, int], None]
"""``progress(done, total)`` in bytes. What it raises ends the reading."""

# Large enough that Python's share of the work vanishes beside sha256's, small enough for a core's cache.
_CHUNK = 1 << 20

_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_sha256(value: object) -> bool:
    """Whether ``value`` is a sha256 as lorapipe writes it: 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class FileState:
    """What the kernel says of a file: which it is, its size in bytes, its times in ns.

    Equal states mean equal content, but for writes within one tick of the file
    system's clock; :class:`~lorapipe.store.memo.Memo` guards against those. ``ctime_ns``
    is in it because a program can set a file's ``mtime`` back, and not its ``ctime``.
    """

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, file: Path | int) -> Self:
        """The state of a path (links followed) or of an open file. Raises ``OSError``."""
        found = os.stat(file)  # noqa: PTH116  # Path has no stat for an open file
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @property
    def identity(self) -> tuple[int, int]:
        """Equal for two names of one file, through links of either sort."""
        return (self.dev, self.ino)

    @property
    def changed_ns(self) -> int:
        """When content or name last changed, as far as the file system tells."""
        return max(self.mtime_ns, self.ctime_ns)


@dataclass(frozen=True, slots=True)
class Hashed:
    """A file's sha256, the state in which it was read, and when reading ended."""

    sha256: str
    state: FileState
    ended_ns: int


def sha256_file(path: Path, progress: Progress | None = None) -> str:
    """The sha256 of a file. Raises as :func:`hash_file` does."""
    return hash_file(path, progress).sha256


def hash_file(path: Path, progress: Progress | None = None) -> Hashed:
    """Read a file once and hash it; one that is replaced meanwhile by another is read anew.

    Raises :class:`~lorapipe.errors.InputError`: ``input-missing``, ``input-unreadable``,
    or ``changed-while-read`` if its state after the reading is not the one before.
    """
    try:
        for _ in range(_REPLACED):
            hashed = _hash_once(path, progress)
            if hashed is not None:
                return hashed
    except FileNotFoundError as error:
        raise InputError("input-missing", "no such file", where=str(path)) from error
    except OSError as error:
        raise InputError(
            "input-unreadable", f"cannot be read: {error.strerror or error}", where=str(path)
        ) from error
    raise _changed(path)


_REPLACED = 5
"""Times that a file is read anew: another build may give its output the same name just now."""


def _hash_once(path: Path, progress: Progress | None) -> Hashed | None:
    """The file's digest; ``None`` if the path names another file by now.

    Raises :class:`~lorapipe.errors.InputError` ``changed-while-read``, and ``OSError``.
    """
    with open_regular(path) as file:
        before = FileState.of(file.fileno())
        sha256 = _sha256(file, before.size, progress)
        after = FileState.of(file.fileno())
    if before == after:
        return Hashed(sha256, after, time.time_ns())
    # A rename over it changes the old file's ctime: that is no change of what the path names.
    with suppress(FileNotFoundError):
        if FileState.of(path).identity != before.identity:
            return None
    raise _changed(path)


def _changed(path: Path) -> InputError:
    return InputError(
        "changed-while-read",
        "it changed while it was read",
        hint="wait until the program that writes it has finished, then run again",
        where=str(path),
    )


def _sha256(file: io.FileIO, total: int, progress: Progress | None) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(_CHUNK, max(total, 1))))
    done = 0
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
        done += count
        if progress is not None:
            progress(done, total)
    return digest.hexdigest()


class HashingFile(io.RawIOBase):
    """Passes what is written on to ``file`` and hashes it on the way.

    It cannot seek: a digest of bytes that are later overwritten would be a lie.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data)
        if view.nbytes == 0:  # which cast refuses
            return 0
        view = view.cast("B")
        self._file.write(view)
        self._digest.update(view)
        self._size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self._size

    @property
    def sha256(self) -> str:
        """Of all that was written so far."""
        return self._digest.hexdigest()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size
