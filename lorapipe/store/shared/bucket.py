"""Named bytes in one place that several machines reach: what a shared store is kept in.

Names are relative, parted by slashes. An object appears whole or not at all, and is then never
changed but by one of the same name that takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Bucket", "GoOn", "Item", "Missing", "Trouble", "go_on", "open_bucket"]


class Missing(Exception):  # a signal between the modules of this folder, never seen outside
    """Nothing has this name."""


class Trouble(Exception):  # as above
    """The place does not do what it is asked for; ``refused`` where it does not let us, and never will."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Item:
    """An object in a listing: its size in bytes, and when it was written (ns since 1970)."""

    name: str
    size: int
    written_ns: int


GoOn = Callable[[], None]
"""Called again and again while somebody else is waited for; it ends the waiting by what it raises."""


def go_on() -> None:
    """Wait as long as it takes."""


class Bucket(Protocol):
    """What a shared store asks of its place. Each method may raise :class:`Trouble`."""

    def read(self, names: Sequence[str], most: int, waiting: GoOn = go_on) -> list[bytes | Missing | Trouble]:
        """The bytes of several objects, asked for at once; of a larger one ``most`` and one byte more."""

    def chunks(self, name: str, size: int, waiting: GoOn = go_on) -> Iterator[bytes]:
        """The first ``size`` bytes of an object, piece by piece; fewer where it ends before.

        Raises :class:`Missing`.
        """

    def size(self, name: str) -> int | None:
        """The size of an object in bytes; ``None`` if it is not there."""

    def write(self, name: str, data: bytes, *, replace: bool = True) -> bool:
        """Write an object; without ``replace`` only where nothing has the name, else it is False."""

    def send(self, name: str, file: Path, sent: Callable[[int], None]) -> None:
        """Write a file's bytes as an object; ``sent`` is told how many more have gone.

        Raises ``OSError`` where the file itself cannot be read.
        """

    def listing(self, folder: str) -> Iterator[Item]:
        """Every object whose name begins with ``folder`` and a slash."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are gone are no matter."""


def open_bucket(url: str) -> Bucket:
    """The place that a URL from :func:`~lorapipe.store.places.find_places` names; nothing is asked yet.

    Raises :class:`~lorapipe.errors.UsageError` ``extra-missing``.
    """
    scheme, _, path = url.partition("://")
    if scheme == "file":
        from lorapipe.store.shared.folder import FolderBucket

        return FolderBucket(Path(path))
    from lorapipe.store.shared.objects import ObjectBucket  # fsspec takes a tenth of a second

    return ObjectBucket(url)
