"""Which outputs are ours: the digests that lorapipe has put, or was about to put, at a path.

A file is ours if the journal holds its path with its *present* digest. A record is made
before the rename, so a crash in between leaves both the old and the new digest on the
books, and whichever of them the file has, it is recognised.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from lorapipe.remote.url import Location, Url, is_url
from lorapipe.store.database import Database, Statement

__all__ = ["KEPT", "UNKNOWN", "Journal", "Making", "Record"]

KEPT = 16
"""Records kept for each path: an older output, put back by hand, is still recognised."""

_INSERT = """
INSERT OR REPLACE INTO journal (path, sha256, key, preimage, lineage, content, noted_ns)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""

_PRUNE = """
DELETE FROM journal WHERE path = ? AND number NOT IN
(SELECT number FROM journal WHERE path = ? ORDER BY number DESC LIMIT ?)
"""


@dataclass(frozen=True, slots=True)
class Making:
    """How a result came to be, as far as it is known.

    ``preimage`` is the text that its key is the sha256 of. It has the steps above by their
    digests alone, and ``lineage`` tells all of them, so that one can say what changed.
    ``content`` is the content key: over stored results above instead of over their lineage.
    """

    preimage: str = ""
    lineage: str = ""
    content: str = ""


UNKNOWN = Making()
"""Of a result that nobody told of."""


@dataclass(frozen=True, slots=True)
class Record:
    """An output as it was, or was about to be: the file's sha256, the key it was built from, and how."""

    sha256: str
    key: str
    making: Making = UNKNOWN


class Journal:
    """The outputs of all recipes of this user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        path: Location,
        sha256: str,
        key: str,
        *,
        replacing: str | None = None,
        making: Making = UNKNOWN,
    ) -> None:
        """Note what is about to appear at ``path``; it is on the disk when this returns.

        ``replacing`` is the digest that the file there has now: its record stays, however
        often a build dies before its rename. Raises :class:`~lorapipe.errors.BuildError`
        as :meth:`~lorapipe.store.database.Database.write` does.
        """
        place = _place(path)
        self._database.write(
            *_renewed(place, replacing),
            (
                _INSERT,
                (place, sha256, key, making.preimage, making.lineage, making.content, time.time_ns()),
            ),
            (
                _PRUNE,
                (place, place, KEPT),
            ),
            durable=True,
        )

    def ours(self, path: Location, sha256: str) -> bool:
        """Whether lorapipe put a file of this digest at ``path``; the digest is the present file's."""
        found = self._database.query(
            "SELECT 1 FROM journal WHERE path = ? AND sha256 = ?", (_place(path), sha256)
        )
        return bool(found)

    def forget(self, folder: Location) -> None:
        """Strike out all that is in the books below a folder. Raises as :meth:`record` does."""
        above = _place(folder).removesuffix(b"/") + b"/"
        self._database.write(("DELETE FROM journal WHERE substr(path, 1, ?) = ?", (len(above), above)))

    def last(self, path: Location) -> tuple[Record, ...]:
        """What was put at ``path``, the latest first. The first may not have got there."""
        rows = self._database.query(
            "SELECT sha256, key, preimage, lineage, content FROM journal WHERE path = ? ORDER BY number DESC",
            (_place(path),),
        )
        return tuple(Record(sha256, key, Making(*making)) for sha256, key, *making in rows)

    def forget_gone(self, before_ns: int, *, only_count: bool = False) -> int:
        """Drop the records of outputs that are not there, made before a time in ns; returns their number.

        Younger ones stay: a disk may be unplugged, an output be put back; and those of outputs
        elsewhere: nobody is asked for them. ``only_count`` drops nothing.
        """
        rows = self._database.query("SELECT DISTINCT path FROM journal WHERE noted_ns < ?", (before_ns,))
        here = [place for (place,) in rows if not is_url(os.fsdecode(place))]
        gone = [place for place in here if not os.path.lexists(os.fsdecode(place))]
        if gone and not only_count:
            self._database.write(
                *(("DELETE FROM journal WHERE path = ? AND noted_ns < ?", (p, before_ns)) for p in gone)
            )
        return len(gone)


def _renewed(place: bytes, sha256: str | None) -> tuple[Statement, ...]:
    """The statement that makes a record of ``sha256``, if there is one, the path's latest."""
    if sha256 is None:
        return ()
    return (
        (
            "UPDATE journal SET number = (SELECT max(number) + 1 FROM journal) WHERE path = ? AND sha256 = ?",
            (place, sha256),
        ),
    )


def _place(path: Location) -> bytes:
    """The URL, or the path as the journal knows it: folders without links, the last part as it is.

    A link in the last place is replaced by an output and not followed, so its own name
    counts. Bytes, because a file name need not be text.
    """
    if isinstance(path, Url):
        return str(path).encode()
    return os.fsencode(Path(os.path.realpath(path.parent)) / path.name)
