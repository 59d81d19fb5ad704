"""A file opened for reading by offset, here or elsewhere: the bottom of every reader.

Reading of a regular file is ``pread`` on one descriptor: no shared position, so that threads need no
lock, and no mapping, whose pages the kernel would count as this process's memory.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lorapipe.errors import InputError
from lorapipe.remote.reading import RemoteFile
from lorapipe.remote.url import Location, Url
from lorapipe.weights.specs import DTYPES, TensorSpec

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["OpenedFile", "Readable", "open_file", "row_range"]

_CALL = 1 << 30  # Linux moves at most 2^31 - 4096 bytes in one call, whatever is asked.


class Readable(Protocol):
    """A file that is open, wherever it is: :class:`OpenedFile`, or :class:`RemoteFile`."""

    @property
    def path(self) -> Location: ...

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytearray: ...

    def head(self, length: int = 512) -> bytes: ...

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None: ...

    def error(self, code: str, message: str, hint: str | None = None) -> InputError: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def open_file(place: Location) -> Readable:
    """Open a file; raises as :class:`OpenedFile` or :class:`RemoteFile` does."""
    return RemoteFile(place) if isinstance(place, Url) else OpenedFile(place)


class OpenedFile:
    """A file that does not change while it is open, or says so.

    ``size`` is its length when opened. Raises :class:`InputError` when the file is
    missing, not a regular file, not readable, or was changed after it was opened.
    """

    __slots__ = ("__weakref__", "_close", "_fd", "_state", "path", "size")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = _open(path)
        self._close = weakref.finalize(self, os.close, self._fd)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise _not_a_file(path, status.st_mode)
        self.size = status.st_size
        self._state = (status.st_size, status.st_mtime_ns)

    def read(self, offset: int, length: int) -> bytearray:
        """``length`` bytes from ``offset``, in a buffer that the caller owns."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise self.error("input-cut-short", f"ends before byte {offset + length}", _AGAIN)
        buffer = bytearray(length)
        view = memoryview(buffer)
        done = 0
        while done < length:
            got = self._pread(view[done : done + _CALL], offset + done)
            if got == 0:
                break
            done += got
        status = os.fstat(self._fd)
        if done < length or (status.st_size, status.st_mtime_ns) != self._state:
            raise self.error(
                "input-changed", "changed while it was read", "run again when nothing writes to it"
            )
        return buffer

    def head(self, length: int = 512) -> bytes:
        """The first bytes, fewer where the file is shorter."""
        return bytes(self.read(0, min(length, self.size)))

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """What will be read soon: the system reads ahead by itself."""

    def error(self, code: str, message: str, hint: str | None = None) -> InputError:
        """An error about this file."""
        return InputError(code, message, hint=hint, where=str(self.path))

    def close(self) -> None:
        """Close the descriptor; closing twice is nothing."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _pread(self, view: memoryview, offset: int) -> int:
        if not self._close.alive:
            raise ValueError(f"{self.path} is closed")
        try:
            return os.preadv(self._fd, [view], offset)
        except OSError as error:
            raise _unreadable(self.path, error) from error


_AGAIN = "copy or download it again"


def _open(path: Path) -> int:
    try:
        # Without O_NONBLOCK, opening a named pipe waits for a writer that never comes.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputError("input-missing", "no such file", hint=_nearby(path), where=str(path)) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:  # a NUL in the name
        raise InputError("input-missing", f"not a file name: {error}", where=repr(str(path))) from None


def _nearby(path: Path) -> str:
    """Name the folder if that is what is missing: the usual slip is there."""
    folder = path.parent
    return "check the path" if folder.is_dir() else f"there is no folder {folder}"


def _unreadable(path: Path, error: OSError) -> InputError:
    reason = error.strerror or "unknown error"
    hint = "check its permissions" if error.errno in (errno.EACCES, errno.EPERM) else None
    return InputError("input-unreadable", f"cannot be read: {reason}", hint=hint, where=str(path))


def _not_a_file(path: Path, mode: int) -> InputError:
    if stat.S_ISDIR(mode):
        return InputError("input-is-folder", "is a folder", hint="name a file inside it", where=str(path))
    return InputError(
        "input-not-a-file", "is a pipe or a device", hint="copy it to a file first", where=str(path)
    )


def row_range(spec: TensorSpec, start: int, stop: int | None) -> tuple[int, int]:
    """Rows ``start`` to ``stop`` of a contiguous tensor as (first byte, length).

    >>> row_range(TensorSpec("F16", (4, 3)), 1, 3)
    (6, 12)
    """
    if not spec.shape:
        if (start, stop) != (0, None):
            raise ValueError("a 0-d tensor has no rows")
        return 0, spec.nbytes
    rows = spec.shape[0]
    stop = rows if stop is None else stop
    if not 0 <= start <= stop <= rows:
        raise ValueError(f"rows {start}:{stop} of a tensor with {rows}")
    row = TensorSpec(spec.dtype, spec.shape[1:]).size * DTYPES[spec.dtype]
    return start * row, (stop - start) * row
