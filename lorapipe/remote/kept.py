"""What was fetched of a small file, on the disk without a name: a LoRA's factors are read more than once."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref

__all__ = ["KEPT_FILE", "Kept"]

KEPT_FILE = 512 << 20
"""Bytes of a file of which is kept what was fetched: any LoRA. A checkpoint's weights are read once."""


class Kept:
    """Pieces by where they begin in the file; gone when it is closed, forgotten, or the program ends.

    A disk that is full costs time, not the build: what is not kept is fetched again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lengths: dict[int, int] = {}
        self._fd: int | None = None
        self._full = False

    def put(self, start: int, data: bytes | bytearray) -> None:
        """Keep a piece, unless it is kept already, or cannot be."""
        with self._lock:
            if self._full or start in self._lengths:
                return
            try:
                if self._fd is None:
                    with tempfile.TemporaryFile(prefix="lorapipe-") as file:
                        self._fd = os.dup(file.fileno())
                    weakref.finalize(self, os.close, self._fd)
                left, at = memoryview(data), start
                while left:
                    done = os.pwrite(self._fd, left, at)
                    left, at = left[done:], at + done
            except OSError:
                self._full = True
                return
            self._lengths[start] = len(data)

    def get(self, start: int) -> bytearray | None:
        """The piece that begins at ``start``; None if it is not kept."""
        with self._lock:
            length = self._lengths.get(start)
            if length is None or self._fd is None:
                return None
            found = bytearray(length)
            view, done = memoryview(found), 0
            while done < length:
                got = os.preadv(self._fd, [view[done:]], start + done)
                if got == 0:
                    return None
                done += got
            return found
