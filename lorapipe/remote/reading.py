"""A file elsewhere, read by offset as an opened file is: ranges, asked for again when they fail."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING

from lorapipe.errors import InputError
from lorapipe.remote.calls import Patience, patience, started
from lorapipe.remote.filesystem import faults
from lorapipe.remote.kept import KEPT_FILE, Kept
from lorapipe.remote.origins import origin_of
from lorapipe.remote.ranges import Known, fetch
from lorapipe.remote.spans import Spans, divided
from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Url

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Self

__all__ = ["HEAD", "RemoteFile"]

HEAD = 32 << 10
"""Bytes that are read at first: the headers of most checkpoints' shards, at once with what the file is."""


_AT_ONCE = 16
"""Requests under way for one file."""


class RemoteFile:
    """A file elsewhere that does not change while it is open, or says so.

    The interface is that of :class:`~lorapipe.formats.containers.opened.OpenedFile`, and it serves
    several threads as well. ``state`` is what it was known as before, if it was; a file that is
    another now is refused. Raises as :func:`~lorapipe.remote.filesystem.faults`, ``input-changed``,
    ``remote-no-ranges`` and ``remote-no-length``.
    """

    def __init__(self, url: Url, state: RemoteState | None = None) -> None:
        self.path = url
        self._origin = origin_of(url)
        self._patience = patience()
        self._known = Known(url, state.size, state.etag) if state is not None else Known(url)
        self._open = True
        self._room: asyncio.Semaphore | None = None  # made on the loop that it belongs to
        self._under_way: set[Future[bytearray]] = set()
        self._lock = threading.Lock()
        self._spans: Spans | None = None
        first = HEAD if self._known.size is None else min(HEAD, self._known.size)
        self._head = self._wait(self._begin(0, first)) if first else bytearray()
        self.size: int = len(self._head) if self._known.size is None else self._known.size

    def read(self, offset: int, length: int) -> bytearray:
        """``length`` bytes from ``offset``, in a buffer that the caller owns."""
        if offset < 0 or length < 0 or offset + length > self.size:
            hint = "copy or upload it again"
            raise self.error("input-cut-short", f"ends before byte {offset + length}", hint)
        if not self._open:
            raise ValueError(f"{self.path} is closed")
        if offset + length <= len(self._head):
            return self._head[offset : offset + length]
        spans = self._spans
        if spans is not None and length and spans.covers(offset, length):
            return spans.read(offset, length)
        return self._wait(self._begin(offset, offset + length))

    def stream(self, ranges: Iterable[tuple[int, int]], ahead: int) -> Iterator[bytearray]:
        """Each of some (offset, length) in turn, with ``ahead`` of them under way."""
        waiting: deque[Future[bytearray]] = deque()
        try:
            for offset, length in ranges:
                waiting.append(self._held(offset, length) or self._begin(offset, offset + length))
                if len(waiting) == ahead:
                    yield self._wait(waiting.popleft())
            while waiting:
                yield self._wait(waiting.popleft())
        finally:
            for future in waiting:
                self._drop(future)

    def _held(self, offset: int, length: int) -> Future[bytearray] | None:
        """A range of the head, which of a server without ranges is the whole file."""
        if offset + length > len(self._head):
            return None
        future: Future[bytearray] = Future()
        future.set_result(self._head[offset : offset + length])
        return future

    def head(self, length: int = 512) -> bytes:
        """The first bytes, fewer where the file is shorter."""
        return bytes(self.read(0, min(length, self.size)))

    def expect(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Say what (offset, length) may be read, so that neighbours are asked for together, and ahead."""
        if self._spans is not None:
            self._spans.close()
        beyond = ((offset, length) for offset, length in ranges if offset + length > len(self._head))
        kept = Kept() if self.size <= KEPT_FILE else None
        self._spans = Spans(divided(beyond), self._begin, self._take, kept)

    def error(self, code: str, message: str, hint: str | None = None) -> InputError:
        """An error about this file."""
        return InputError(code, message, hint=hint, where=str(self.path))

    def close(self) -> None:
        """Let go of it, and end what is under way; closing twice is nothing."""
        self._open = False
        if self._spans is not None:
            self._spans.close()
        with self._lock:
            under_way = tuple(self._under_way)
        for future in under_way:  # whose end is told while the lock is not held
            future.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _begin(self, start: int, stop: int) -> Future[bytearray]:
        future = started(self._fetch(start, stop))
        with self._lock:
            self._under_way.add(future)
        future.add_done_callback(self._ended)
        return future

    async def _fetch(self, start: int, stop: int) -> bytearray:
        import asyncio

        if self._room is None:
            self._room = asyncio.Semaphore(_AT_ONCE)
        async with self._room:
            limits = Patience(self._patience, beginning=not self._known.begun)
            return await fetch(self._origin, self._known, start, stop, limits)

    def _take(self, future: Future[bytearray]) -> bytearray:
        try:
            with faults(self.path):
                return future.result()
        except CancelledError:
            raise ValueError(f"{self.path} is closed") from None

    def _wait(self, future: Future[bytearray]) -> bytearray:
        try:
            return self._take(future)
        finally:
            self._drop(future)

    def _drop(self, future: Future[bytearray]) -> None:
        future.cancel()
        self._ended(future)

    def _ended(self, future: Future[bytearray]) -> None:
        with self._lock:
            self._under_way.discard(future)
