"""What a scheme has to give."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lorapipe.remote.state import RemoteState

__all__ = ["Answer", "Begun", "Origin", "Sink", "parse_content_range"]

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


def parse_content_range(text: str | None) -> tuple[int | None, int | None]:
    """First byte and whole size of a ``Content-Range`` header; None for what it does not say.

    >>> parse_content_range("bytes 5-9/100"), parse_content_range("bytes */100"), parse_content_range(None)
    ((5, 100), (None, 100), (None, None))
    """
    found = _RANGE.fullmatch(text.strip()) if text else None
    if found is None:
        return None, None
    return (int(found[1]) if found[1] else None), (None if found[3] == "*" else int(found[3]))
