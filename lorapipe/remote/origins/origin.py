"""What a scheme has to give."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lorapipe.errors import InputError
from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Url

__all__ = ["Answer", "Begun", "Origin", "Sink", "no_length", "parse_content_range", "state_by_get"]

_RANGE = re.compile(r"bytes (?:([0-9]+)-([0-9]+)|\*)/([0-9]+|\*)")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer says before its bytes come: where they begin, of which file.

    ``size`` is that of the whole file, None where the server does not tell it. ``ranges`` is False
    where all of the file comes, whatever was asked for.
    """

    start: int
    size: int | None
    etag: str | None = None
    ranges: bool = True


Begun = Callable[[Answer], None]
"""Called before any bytes; what it raises ends the request."""

Sink = Callable[[bytes], bool]
"""Takes the bytes as they come; False when it wants no more."""


class Origin(Protocol):
    """A file elsewhere. What fails raises the library's own exceptions, for one asks again for some.

    Bytes that do not come for ``quiet`` seconds raise a ``TimeoutError``.
    """

    async def state(self) -> RemoteState:
        """Its state, by one request."""
        ...

    async def get(self, start: int, stop: int, begun: Begun, sink: Sink, quiet: float) -> None:
        """Bytes ``start`` to ``stop``, fewer where the file ends or the connection does."""
        ...


async def state_by_get(origin: Origin, url: Url) -> RemoteState:
    """The state of a file as the answer to a request for its first byte tells it; of no revision.

    Raises :class:`~lorapipe.errors.InputError` ``remote-no-length``.
    """
    found: list[Answer] = []
    await origin.get(0, 1, found.append, lambda _: False, 60.0)
    if found[0].size is None:
        raise no_length(url)
    return RemoteState(found[0].size, found[0].etag)


def no_length(url: Url) -> InputError:
    """The error for a server that does not say how long its file is."""
    return InputError(
        "remote-no-length",
        "the server does not tell the file's length",
        hint="download it, and load it from there",
        where=str(url),
    )


def parse_content_range(text: str | None) -> tuple[int | None, int | None]:
    """First byte and whole size of a ``Content-Range`` header; None for what it does not say.

    >>> parse_content_range("bytes 5-9/100"), parse_content_range("bytes */100"), parse_content_range(None)
    ((5, 100), (None, 100), (None, None))
    """
    found = _RANGE.fullmatch(text.strip()) if text else None
    if found is None:
        return None, None
    return (int(found[1]) if found[1] else None), (None if found[3] == "*" else int(found[3]))
