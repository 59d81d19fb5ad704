"""Which outputs are ours: the digests that lorapipe has put, or was about to put, at a path.

A file is ours if the journal holds its path with its *present* digest. A record is made
before the rename, so a crash in between leaves both the old and the new digest on the
books, and whichever of them the file has, it is recognised.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lorapipe.store.database import Database, Statement

__all__ = ["KEPT", "Journal", "Record"]

KEPT = 16
"""Records kept for each path: an older output, put back by hand, is still recognised."""

_PRUNE = """
DELETE FROM journal WHERE path = ? AND number NOT IN
(SELECT number FROM journal WHERE path = ? ORDER BY number DESC LIMIT ?)
"""


@dataclass(frozen=True, slots=True)
class Record:
    """An output as it was, or was about to be: the file's sha256, and the key it was built from."""

    sha256: str
    key: str


class Journal:
    """The outputs of all recipes of this user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, path: Path, sha256: str, key: str, *, replacing: str | None = None) -> None:
        """Note what is about to appear at ``path``; it is on the disk when this returns.

        ``replacing`` is the digest that the file there has now: its record stays, however
        often a build dies before its rename. Raises :class:`~lorapipe.errors.BuildError`
        as :meth:`~lorapipe.store.database.Database.write` does.
        """
        place = _place(path)
        self._database.write(
            *_renewed(place, replacing),
            ("INSERT OR REPLACE INTO journal (path, sha256, key) VALUES (?, ?, ?)", (place, sha256, key)),
            (
                _PRUNE,
                (place, place, KEPT),
            ),
            durable=True,
        )

    def ours(self, path: Path, sha256: str) -> bool:
        """Whether lorapipe put a file of this digest at ``path``; the digest is the present file's."""
        found = self._database.query(
            "SELECT 1 FROM journal WHERE path = ? AND sha256 = ?", (_place(path), sha256)
        )
        return bool(found)

    def last(self, path: Path) -> tuple[Record, ...]:
        """What was put at ``path``, the latest first. The first may not have got there."""
        rows = self._database.query(
            "SELECT sha256, key FROM journal WHERE path = ? ORDER BY number DESC", (_place(path),)
        )
        return tuple(Record(str(sha256), str(key)) for sha256, key in rows)


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


def _place(path: Path) -> bytes:
    """The path as the journal knows it: folders without links, the last part as it is.

    A link in the last place is replaced by an output and not followed, so its own name
    counts. Bytes, because a file name need not be text.
    """
    return os.fsencode(Path(os.path.realpath(path.parent)) / path.name)
