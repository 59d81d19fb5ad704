"""Large files written past the page cache, where the system can.

A checkpoint of 7 GB that goes through the page cache pushes everything else out of it, and
costs the copy into it and the pages' allocation: on a virtual machine a third of a merge's
CPU time was that (measured). With ``O_DIRECT`` the disk takes the bytes from the buffer
itself, while the caller's threads work on.
"""

from __future__ import annotations

import errno
import fcntl
import io
import mmap
import os
from typing import TYPE_CHECKING, BinaryIO, cast

from lorapipe.errors import BuildError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["LARGE", "DirectWriter", "writer"]

LARGE = 1 << 26
"""Bytes from which a file is written past the page cache: a smaller one may well be read next."""

_BUFFER = 1 << 22
_ALIGNED = 1 << 12
"""What addresses, offsets and lengths must be multiples of; no disk in use asks for more."""
_O_DIRECT: int = getattr(os, "O_DIRECT", 0)


def writer(raw: io.FileIO, size: int | None, buffer: int) -> BinaryIO:
    """A buffered stream on ``raw``, which is empty; ``size`` is that of the file to be, if known."""
    if _O_DIRECT and size is not None and size >= LARGE:
        return cast("BinaryIO", DirectWriter(raw))
    return io.BufferedWriter(raw, buffer)


class DirectWriter(io.BufferedIOBase):
    """Collects what is written and hands whole blocks to the disk, the rest when it is flushed.

    A file system without direct writes gets ordinary ones. After a flush of anything but
    whole blocks writes are ordinary, too. Raises ``OSError`` as ``raw`` does; as with
    Python's own buffer, what could not be written is tried again by the next flush.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self._buffer = mmap.mmap(-1, _BUFFER)  # memory at the start of a page
        self._filled = 0
        self._direct = _set_direct(raw, on=True)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def write(self, data: Buffer, /) -> int:
        with memoryview(data) as view, view.cast("B") as flat:
            taken = 0
            while taken < flat.nbytes:
                count = min(_BUFFER - self._filled, flat.nbytes - taken)
                self._buffer[self._filled : self._filled + count] = flat[taken : taken + count]
                self._filled += count
                taken += count
                if self._filled == _BUFFER:
                    self._empty(_BUFFER)
            return taken

    def flush(self) -> None:
        if self.closed or not self._filled:
            return
        self._empty(self._filled // _ALIGNED * _ALIGNED)
        if self._filled:
            self._ordinary()
            self._empty(self._filled)

    def close(self) -> None:
        if self.closed:
            return
        try:
            self.flush()
        finally:
            super().close()
            self._raw.close()

    def _empty(self, length: int) -> None:
        """Write the first ``length`` bytes of the buffer; what is behind them moves to the front."""
        done = 0
        try:
            while done < length:
                done += self._put(done, length)
        finally:
            rest = self._filled - done
            if rest and done:
                self._buffer.move(0, done, rest)
            self._filled = rest

    def _put(self, start: int, stop: int) -> int:
        with memoryview(self._buffer) as view, view[start:stop] as part:
            try:
                count = self._raw.write(part) or 0
            except (OSError, BuildError) as error:
                if not self._direct or not _misaligned(error):
                    raise
                self._ordinary()
                count = self._raw.write(part) or 0
        if count % _ALIGNED:  # a short write: the offset is no multiple any more
            self._ordinary()
        return count

    def _ordinary(self) -> None:
        if self._direct:
            self._direct = False
            _set_direct(self._raw, on=False)


def _misaligned(error: BaseException) -> bool:
    """Whether a write failed for what direct writes alone ask for; the store names its faults."""
    fault = error if isinstance(error, OSError) else error.__cause__
    return isinstance(fault, OSError) and fault.errno == errno.EINVAL


def _set_direct(raw: io.FileIO, *, on: bool) -> bool:
    """Turn direct writes on or off; whether they are on now."""
    flags = fcntl.fcntl(raw.fileno(), fcntl.F_GETFL)
    try:
        fcntl.fcntl(raw.fileno(), fcntl.F_SETFL, flags | _O_DIRECT if on else flags & ~_O_DIRECT)
    except OSError:  # tmpfs and some network file systems do not know them
        return False
    return on
