"""Digests of files elsewhere, remembered by what their servers say of them, so that none is read again.

A server tells that a file changed by its ETag: what has none is not remembered.
"""

from __future__ import annotations

import hashlib
import time

from lorapipe.errors import BuildError
from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Url
from lorapipe.store.database import Database

__all__ = ["KEPT_NS", "RemoteMemo"]

KEPT_NS = 180 * 24 * 3600 * 10**9
"""For how long, in ns: whether a file is still there is not asked of its server."""


class RemoteMemo:
    """The digests of files elsewhere that this machine knows; it costs time when it fails, not the build."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lookup(self, url: Url, state: RemoteState) -> str | None:
        """The sha256 of the file at ``url`` in just this state; None if it must be read.

        Where the server keeps the sha256 itself, as it does of what it holds to account, it is that.
        """
        if state.sha256 is not None:
            return state.sha256
        rows = self._database.query(
            "SELECT sha256, guard FROM remote_memo WHERE url = ? AND size = ? AND etag = ?",
            (str(url), state.size, state.etag),
        )
        for sha256, guard in rows:
            # sqlite has no checksums: a flipped bit in here would pass for another file's content.
            if guard == _guard(url, state, sha256):
                return str(sha256)
        return None

    def remember(self, url: Url, state: RemoteState, sha256: str) -> bool:
        """Keep the digest of a file in this state; False if it has no ETag, or the store does not let us."""
        if self._database.looking or state.etag is None:
            return False
        row = (str(url), state.size, state.etag, sha256, _guard(url, state, sha256), time.time_ns())
        try:
            self._database.write(("INSERT OR REPLACE INTO remote_memo VALUES (?, ?, ?, ?, ?, ?)", row))
        except BuildError:
            return False
        return True

    def forget(self, before_ns: int, *, only_count: bool = False) -> int:
        """Drop what was noted before a time in ns; returns the number. ``only_count`` drops nothing."""
        ((count,),) = self._database.query(
            "SELECT count(*) FROM remote_memo WHERE noted_ns < ?", (before_ns,)
        ) or [(0,)]
        if count and not only_count:
            self._database.write(("DELETE FROM remote_memo WHERE noted_ns < ?", (before_ns,)))
        return int(count)


def _guard(url: Url, state: RemoteState, sha256: object) -> str:
    row = "|".join(map(str, (url, state.size, state.etag, sha256)))
    return hashlib.sha256(row.encode()).hexdigest()[:16]
