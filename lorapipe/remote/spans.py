"""Reading ahead in a file elsewhere: neighbours by one request, several requests under way, each byte once.

A file whose reader says what lies in it (:meth:`RemoteFile.expect`) is divided into spans: small
neighbours together, large ones in pieces. A read takes what it needs from the spans that it touches,
which are fetched at the same time; a span is let go when all of it was taken. While reads go on
through the file in order, the next spans are fetched ahead; one here and one there fetch nothing more.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future

from lorapipe.remote.kept import Kept

__all__ = ["AHEAD", "KEPT", "SPAN", "Spans", "divided"]

SPAN = 4 << 20
"""Bytes of a span at most: a connection of 100 MB/s is at it for 40 ms, about as long as it takes to ask."""

SMALL = 256 << 10
"""Bytes of neighbours that are fetched together: of these one alone takes less time than the asking."""

GAP = 64 << 10
"""Bytes between neighbours that are fetched along: they take less time than another request."""

AHEAD = 32 << 20
"""Bytes that are fetched before they are asked for, at most; and 16 spans."""

KEPT = 64 << 20
"""Bytes of spans of which only a part was taken, at most; then the oldest are let go, and fetched again."""

_MOST_AHEAD = 16
_NEAR = 8
"""Spans by which several threads may be before or behind each other and still read in order."""


def divided(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans, as (first byte, end), of some (offset, length): in order, none overlapping.

    >>> divided([(100, 50), (0, 100), (GAP + 1000, 10)])
    [(0, 150), (66536, 66546)]
    """
    spans: list[tuple[int, int]] = []
    joins = False
    for offset, length in sorted(ranges):
        start, stop = offset, offset + length
        small = length <= SMALL
        if spans:
            first, last = spans[-1]
            if joins and small and start - last <= GAP and stop - first <= SPAN:
                spans[-1] = (first, max(last, stop))
                continue
            start = max(start, last)
        spans.extend((at, min(at + SPAN, stop)) for at in range(start, stop, SPAN))
        joins = small
    return spans


class Spans:
    """The spans of an open file. ``begin(start, stop)`` begins to fetch, ``take(future)`` waits for it.

    What was taken of a file with ``kept`` is there for later reads, too.
    """

    def __init__(
        self,
        spans: Sequence[tuple[int, int]],
        begin: Callable[[int, int], Future[bytearray]],
        take: Callable[[Future[bytearray]], bytearray],
        kept: Kept | None = None,
    ) -> None:
        self._spans = spans
        self._starts = [start for start, _ in spans]
        self._begin, self._take, self._kept = begin, take, kept
        self._lock = threading.Lock()
        self._held: dict[int, Future[bytearray]] = {}
        self._left: dict[int, int] = {}
        self._last = -1
        self._run = 0

    def covers(self, offset: int, length: int) -> bool:
        """Whether all of a range lies in spans."""
        at = offset
        for index in range(max(0, self._index(offset)), len(self._spans)):
            start, stop = self._spans[index]
            if start > at:
                return False
            at = max(at, stop)
            if at >= offset + length:
                return True
        return False

    def read(self, offset: int, length: int) -> bytearray:
        """A range that the spans cover."""
        first, last = self._index(offset), self._index(offset + length - 1)
        with self._lock:
            fetched = [(index, self._fetched(index)) for index in range(first, last + 1)]
            self._go_ahead(first, last)
            self._let_go({index for index, _ in fetched})
        found = bytearray(length)
        for index, future in fetched:
            start, stop = self._spans[index]
            data = self._data(index, future)
            if self._kept is not None:
                self._kept.put(start, data)
            begin, end = max(start, offset), min(stop, offset + length)
            found[begin - offset : end - offset] = memoryview(data)[begin - start : end - start]
            self._taken(index, end - begin)
        return found

    def close(self) -> None:
        """Let go of all, and end what is under way."""
        with self._lock:
            for future in self._held.values():
                future.cancel()
            self._held.clear()

    def _index(self, offset: int) -> int:
        return bisect_right(self._starts, offset) - 1

    def _data(self, index: int, future: Future[bytearray]) -> bytearray:
        try:
            return self._take(future)
        except BaseException:
            with self._lock:  # who asks again, asks the server again
                if self._held.get(index) is future:
                    del self._held[index]
            raise

    def _fetched(self, index: int) -> Future[bytearray]:
        future = self._held.pop(index, None)
        if future is None:
            start, stop = self._spans[index]
            future = self._again(start) or self._begin(start, stop)
            self._left[index] = stop - start
        self._held[index] = future  # the last that was asked for is the last to go
        return future

    def _again(self, start: int) -> Future[bytearray] | None:
        known = None if self._kept is None else self._kept.get(start)
        if known is None:
            return None
        future: Future[bytearray] = Future()
        future.set_result(known)
        return future

    def _go_ahead(self, first: int, last: int) -> None:
        """Begin to fetch what comes next, more of it the longer reads go on in order."""
        in_order = self._last - _NEAR <= first <= self._last + 1
        self._run = self._run + 1 if in_order else 0
        self._last = max(self._last, last) if in_order else last
        budget = AHEAD
        for index in range(self._last + 1, min(self._last + 1 + self._most(), len(self._spans))):
            start, stop = self._spans[index]
            budget -= stop - start
            if budget < 0:
                return
            if index not in self._held:
                self._fetched(index)

    def _most(self) -> int:
        return 0 if self._run < 2 else min(1 << self._run, _MOST_AHEAD)

    def _taken(self, index: int, size: int) -> None:
        with self._lock:
            self._left[index] = self._left.get(index, 0) - size
            if self._left[index] <= 0:
                self._held.pop(index, None)

    def _let_go(self, needed: set[int]) -> None:
        kept = sum(self._spans[index][1] - self._spans[index][0] for index in self._held)
        for index in list(self._held):
            if kept <= KEPT + AHEAD:
                return
            if index not in needed:
                self._held.pop(index).cancel()
                kept -= self._spans[index][1] - self._spans[index][0]
