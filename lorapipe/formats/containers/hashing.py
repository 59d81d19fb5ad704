"""The sha256 of what a file is given, made beside the writing of it."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["BEHIND", "HashBeside"]

BEHIND = 1 << 23
"""Bytes that may wait to be hashed, unless a single piece is longer: twice what a disk is handed at once."""

_LONG = 1 << 16
"""Bytes from which a piece is worth the way to another thread."""


class HashBeside:
    """Hashes pieces in the order in which they come, the long ones on a thread of its own.

    A disk takes about as long for a gigabyte as sha256 does. One after the other, both would
    hold up whoever makes the next piece. A piece must not be changed once it is given.
    """

    __slots__ = ("_behind", "_hash", "_pool", "_waiting")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._pool: ThreadPoolExecutor | None = None
        self._behind: deque[tuple[Future[None], int]] = deque()
        self._waiting = 0

    def update(self, piece: memoryview) -> None:
        """Hash a piece by and by; waits while more than :data:`BEHIND` bytes would be behind."""
        while self._behind and (self._behind[0][0].done() or self._waiting + piece.nbytes > BEHIND):
            self._settle()
        if not self._behind and piece.nbytes < _LONG:
            self._hash.update(piece)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "sha256")
        self._behind.append((self._pool.submit(self._hash.update, piece), piece.nbytes))
        self._waiting += piece.nbytes

    def hexdigest(self) -> str:
        """The sha256 of all pieces given so far."""
        while self._behind:
            self._settle()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        return self._hash.hexdigest()

    def _settle(self) -> None:
        future, size = self._behind.popleft()
        future.result()
        self._waiting -= size
