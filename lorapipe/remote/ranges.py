"""A range of a file elsewhere, over as many requests as it takes."""

from __future__ import annotations

from dataclasses import dataclass

from lorapipe.errors import InputError
from lorapipe.remote.calls import Patience
from lorapipe.remote.origins import Answer, Origin
from lorapipe.remote.origins.origin import no_length
from lorapipe.remote.url import Url

__all__ = ["WHOLE", "Known", "fetch"]

WHOLE = 256 << 20
"""Bytes of a file that is read whole where its server gives no ranges."""

_GAIN = 1 << 16
"""Bytes that renew the patience with a server: fewer a minute are as good as none."""


@dataclass(slots=True)
class Known:
    """What is known of the file at ``url``; ``whole`` where its server gives no ranges.

    ``begun`` once it has answered.
    """

    url: Url
    size: int | None = None
    etag: str | None = None
    whole: bool = False
    begun: bool = False

    def settle(self, answer: Answer) -> None:
        """Take an answer's size and ETag for the file's, or hold them against what is known.

        Raises :class:`~lorapipe.errors.InputError` ``input-changed``.
        """
        other_size = None not in (self.size, answer.size) and self.size != answer.size
        if other_size or (None not in (self.etag, answer.etag) and self.etag != answer.etag):
            hint = "run again when nothing writes to it"
            raise InputError("input-changed", "changed while it was read", hint=hint, where=str(self.url))
        self.begun = True
        self.size = answer.size if self.size is None else self.size
        self.etag = answer.etag if self.etag is None else self.etag


async def fetch(origin: Origin, known: Known, start: int, stop: int, limits: Patience) -> bytearray:
    """Bytes ``start`` to ``stop``. What a broken answer gave is kept, and the rest asked for again.

    While the size is not ``known``, what there is of them; all of the file where it only comes whole.
    Raises the libraries' exceptions, ``input-changed``, ``remote-no-ranges`` and ``remote-no-length``.
    """
    taken = _Taken(known, start, stop, limits)
    while not taken.complete:
        try:
            await origin.get(taken.at, taken.stop, taken.begun, taken.more, limits.quiet)
            if taken.complete or taken.ended():
                break
            raise ConnectionResetError("the answer is shorter than it claims")
        except Exception as error:  # noqa: BLE001  # pause() raises what does not pass
            await limits.pause(error, known.url)
    return taken.bytes


def no_ranges(url: Url) -> InputError:
    """The error for a large file of a server that gives files only whole."""
    message = f"the server gives it only whole, and it has more than {WHOLE >> 20} MiB"
    hint = "download it, and load it from there"
    return InputError("remote-no-ranges", message, hint=hint, where=str(url))


class _Taken:
    """What has come so far of a range; what comes next begins at ``at``."""

    def __init__(self, known: Known, start: int, stop: int, limits: Patience) -> None:
        self.bytes = bytearray()
        self.stop = stop
        self._known, self._start, self._limits = known, start, limits
        self._skip = self._renewed = 0

    @property
    def at(self) -> int:
        return self._start + len(self.bytes)

    @property
    def complete(self) -> bool:
        return self.at == self.stop

    def begun(self, answer: Answer) -> None:
        """Hold an answer's head against what is known; skip what it gives too much at its beginning."""
        first = self._known.size is None
        self._known.settle(answer)
        if not answer.ranges:
            self._all(answer.size)
        elif answer.size is None and first:
            raise no_length(self._known.url)
        elif answer.start != self.at:
            raise ConnectionResetError("the answer is of another range")
        elif first and answer.size is not None:
            self.stop = min(self.stop, answer.size)

    def more(self, chunk: bytes) -> bool:
        """Take in what has come; False when that is all."""
        self._limits.check()
        if self.at + len(chunk) > WHOLE and self._known.size is None:
            raise no_ranges(self._known.url)
        if self._skip:
            self._skip, chunk = max(0, self._skip - len(chunk)), chunk[self._skip :]
        room = self.stop - self.at
        self.bytes += chunk if len(chunk) <= room else chunk[:room]
        if len(self.bytes) - self._renewed >= _GAIN:
            self._renewed = len(self.bytes)
            self._limits.renew()
        return not self.complete

    def ended(self) -> bool:
        """Whether an answer that ended without a length before it was the whole file."""
        known = self._known
        if known.whole and known.size is None and self.at < self.stop:
            known.size = self.stop = self.at
        return self.complete

    def _all(self, size: int | None) -> None:
        if size is not None and size > WHOLE:
            raise no_ranges(self._known.url)
        self._known.whole = True
        if self._start == 0:
            self.stop = WHOLE + 1 if size is None else size
        self._skip = self.at
