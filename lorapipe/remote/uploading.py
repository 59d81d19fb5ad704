"""Bytes written to a URL: parts that go up while the next ones are made, and an object when all are there.

    write ... write  --seal-->  all bytes are with the store, unseen  --complete-->  the object is there

What ends before that is aborted, and leaves nothing. Memory is that of the parts under way, whatever
the size of the object. Something small waits whole, and goes up by one request when it is complete.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from lorapipe.errors import BuildError
from lorapipe.remote.calls import Patience, patience, started
from lorapipe.remote.filesystem import faults
from lorapipe.remote.targets import target_of
from lorapipe.remote.targets.target import ABSENT, ANYTHING, Expected, Raced
from lorapipe.remote.url import Url
from lorapipe.remote.waiting import awaited

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["LARGEST", "PART", "Upload", "abort", "memory", "part_size", "try_writing"]

T = TypeVar("T")

PART = 1 << 23
"""Bytes of a part, unless there would be too many of them."""

_MOST_PARTS = 9_500
"""Of S3's 10,000: the size that is foretold lacks the header's bytes."""

LARGEST = 5 << 40
"""Bytes of an object that every store takes. *Source*: Amazon S3 User Guide, "Multipart upload limits"."""

_ABORT_S = 0.8
"""Seconds that an abort is waited for: somebody may wait for the end."""

_QUIET = 3
"""Parts of the patience: so long nothing may move before a request is made again."""

_MAKING = 5
"""Patiences for a request that makes the object: S3 says that it may take minutes."""


def part_size(size: int | None) -> int:
    """Bytes of each part but the last, of an object of about ``size``; equal, as some stores ask for.

    >>> part_size(7_000_000_000) == PART, part_size(LARGEST) >> 20
    (True, 552)
    """
    least = -(-(size or 0) // _MOST_PARTS)
    return PART if least <= PART else -(-least >> 20) << 20  # whole MiB


def memory(size: int) -> int:
    """Bytes that an upload of about ``size`` keeps: parts under way, one that fills, one that grows."""
    return 8 * part_size(size)


def _go_on() -> None:
    pass


def _unheard(count: int) -> None:
    pass


class _Part(io.BytesIO):
    """Bytes to send, perhaps more than once: libraries close what they have sent."""

    def close(self) -> None:
        pass


class Upload(io.RawIOBase):
    """An object on its way to ``url``, written from first byte to last.

    ``size`` is about what it will have, in bytes, where that is known; ``expected`` what it may
    replace. ``go_on`` is called while the network is waited for, and ends that by what it raises;
    ``sent`` is told of the bytes that have come to the store. Who does not complete it aborts it
    (:func:`abort`). Raises :class:`~lorapipe.errors.BuildError` as
    :func:`~lorapipe.remote.filesystem.faults` does.
    """

    def __init__(
        self,
        url: Url,
        size: int | None = None,
        *,
        expected: Expected = ABSENT,
        go_on: Callable[[], None] = _go_on,
        sent: Callable[[int], None] = _unheard,
    ) -> None:
        super().__init__()
        self.url = url
        self._expected, self._go_on, self._sent = expected, go_on, sent
        self._part, self._part_size = _Part(), part_size(size)
        self._number = self._start = 0
        self._begun: Future[None] | None = None
        self._under_way: deque[tuple[Future[None], int]] = deque()
        self._completed = False
        self._patience = patience()
        with faults(url, writing=True):
            self._target = target_of(url)

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._start + self._part.tell()

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data)
        if view.nbytes == 0:  # which cast refuses
            return 0
        flat, taken = view.cast("B"), 0
        while taken < flat.nbytes:
            if self._part.tell() == self._part_size:
                self._send(self._part_size)
            count = min(self._part_size - self._part.tell(), flat.nbytes - taken)
            taken += self._part.write(flat[taken : taken + count])
        return taken

    def look(self) -> None:
        """Expect what is there now: that is what may be replaced, and nothing that comes meanwhile."""
        self._expected = self._wait(started(self._insist(self._target.look)))

    def begin(self) -> None:
        """Announce it now: so it is known that there is such a bucket, and a right to write to it."""
        if self._begun is None:
            self._begun = started(self._insist(partial(self._target.begin, self._expected)))
        self._wait(self._begun)

    def seal(self) -> None:
        """Wait until the bytes are with the store, but for those that go up when it is completed."""
        if self._begun is not None:
            filled = self._part.tell()
            self._send(filled - filled % self._target.align)
        while self._under_way:
            self._reap()

    def complete(self) -> None:
        """Let the object appear: whole, and at once.

        Raises :class:`~lorapipe.errors.BuildError` ``output-raced`` where another one is there than
        what it may replace.
        """
        self.seal()
        rest, length = self._part, self._part.tell()
        rest.seek(0)
        if self._begun is None:
            made = self._insist(partial(self._target.whole, rest, self._expected), rest)
        else:
            complete = partial(self._target.complete, self._start, rest)
            made = self._insist(complete, rest, _MAKING * self._patience)
        self._wait(started(made))
        self._completed = True
        self._sent(length)

    def aborting(self) -> Future[None] | None:
        """Begin to have the store forget what it was sent; completed, there is nothing to forget."""
        if self._completed:
            return None
        for sending, _ in self._under_way:
            sending.cancel()
        return started(self._forget())

    async def _forget(self) -> None:
        import asyncio

        if self._begun is not None:
            with suppress(Exception):
                await asyncio.wrap_future(self._begun)  # its answer names what is to be forgotten
        await self._target.abort()

    def _send(self, length: int) -> None:
        """Begin to send the first ``length`` bytes of what waits."""
        if not length:
            return
        self.begin()
        while len(self._under_way) >= self._target.at_once:
            self._reap()
        rest = self._part.getvalue()[length:] if length < self._part.tell() else b""
        self._part.truncate(length)
        part, self._part = self._part, _Part()
        self._part.write(rest)
        part.seek(0)
        self._number += 1
        send = partial(self._target.send, self._number, self._start, part)
        self._start += length
        self._under_way.append((started(self._insist(send, part)), length))

    def _reap(self) -> None:
        """Wait for the part that was sent first."""
        sending, length = self._under_way[0]
        self._wait(sending)
        self._under_way.popleft()
        self._sent(length)

    def _wait(self, future: Future[T]) -> T:
        with faults(self.url, writing=True):
            try:
                return awaited(future, self._go_on)
            except Raced:
                raise _raced(self.url) from None

    async def _insist(
        self, ask: Callable[[], Awaitable[T]], body: _Part | None = None, quiet: float | None = None
    ) -> T:
        """What ``ask`` gives, asked again if it fails in passing: for as long as the patience is."""
        limits: Patience | None = None
        while True:
            try:
                return await _moving(ask(), body, quiet or self._patience / _QUIET)
            except Exception as error:  # noqa: BLE001, PERF203  # whether it passes is not seen by its type
                limits = limits or Patience(self._patience)
                await limits.pause(error, self.url)
                if body is not None:
                    body.seek(0)


async def _moving(work: Awaitable[T], body: _Part | None, quiet: float) -> T:
    """What ``work`` gives; ``TimeoutError`` where for ``quiet`` seconds nothing more of ``body`` was read.

    A slow connection is no dead one, and no library has a limit for what it sends.
    """
    import asyncio

    task = asyncio.ensure_future(work)
    try:
        while True:
            at = None if body is None else body.tell()
            await asyncio.wait((task,), timeout=quiet)
            if task.done():
                return task.result()
            if body is None or body.tell() == at:
                raise TimeoutError
    finally:
        task.cancel()


def _raced(url: Url) -> BuildError:
    return BuildError(
        "output-raced",
        f"'{url.name}' was written by another program while the build was at work",
        hint="run again: what is there now is looked at anew",
        where=str(url),
        option="to",
    )


def try_writing(url: Url, go_on: Callable[[], None] = _go_on) -> None:
    """See that an object could be written to ``url``, by announcing one that never comes.

    Raises :class:`~lorapipe.errors.BuildError` as :class:`Upload` does.
    """
    upload = Upload(url, expected=ANYTHING, go_on=go_on)
    try:
        upload.begin()
    finally:
        abort((upload,))


def abort(uploads: Iterable[Upload]) -> None:
    """Have the stores forget what was not completed, as far as they can be reached without waiting long.

    What is left of a build that was killed, or cut off, costs room and is never seen: stores have
    rules by which it goes after some days.
    """
    aborting = [each for each in (upload.aborting() for upload in uploads) if each is not None]
    wait(aborting, timeout=_ABORT_S)  # what takes longer goes on, as long as the program lives
