"""What a scheme has to give for writing."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Protocol

__all__ = ["ABSENT", "ANYTHING", "Expected", "Raced", "Target"]


@dataclass(frozen=True, slots=True)
class Expected:
    """What an object replaces: the one with this ``mark``, which tells it from any other of its name.

    Without a mark nothing may be there; where it may be :data:`ANYTHING`, nothing is asked.
    """

    mark: str | None = None
    any: bool = False


ABSENT = Expected()
ANYTHING = Expected(any=True)


class Raced(Exception):  # a signal: uploading makes an error of it
    """Another object has the name than the one that was to be replaced."""


class Target(Protocol):
    """An object on its way; nothing of it is to be seen before it is complete.

    Either ``whole``, or ``begin``, parts and ``complete``. Parts but the last are of one size, a
    multiple of ``align``, and no more than ``at_once`` of them are sent at a time. What fails raises the
    library's own exceptions, for one asks again for some: each may be called again. A part is read
    from where it stands.
    """

    align: int
    at_once: int

    async def look(self) -> Expected:
        """What is there now."""
        ...

    async def begin(self, expected: Expected) -> None:
        """Announce it: fails where there is no such bucket, or no right to write."""
        ...

    async def send(self, number: int, start: int, part: io.BytesIO) -> None:
        """Part ``number``, from 1, which has the bytes from ``start``."""
        ...

    async def complete(self, start: int, rest: io.BytesIO) -> None:
        """Let it appear with the ``rest`` of it, less than ``align`` bytes. Raises :class:`Raced`."""
        ...

    async def whole(self, body: io.BytesIO, expected: Expected) -> None:
        """Let a small object appear without more ado. Raises :class:`Raced`."""
        ...

    async def abort(self) -> None:
        """Have the store forget the parts; what was not begun has none."""
        ...

    async def remove(self) -> None:
        """Have the object that is there go; one that is gone already is none."""
        ...
