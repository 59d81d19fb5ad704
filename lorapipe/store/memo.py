"""Digests remembered by file state, so that a file that did not change is not read again.

The danger is a write so soon after the hashing that the file system's clock has not
moved on: state and digest would then disagree for ever. Hence the *racy rule*: a digest
is remembered only if, when hashing ended, ``mtime`` and ``ctime`` lay further back than
the clock's granularity; any later write then shows. The same idea as in git's index
(git, ``Documentation/technical/racy-git.txt``), but refusing to remember instead of
comparing content again.

A write shows in ``ctime`` even where ``mtime`` is set back after it: no program can set that.
What changes no state is not seen, as when a disk gives back other bytes than it was given;
``lorapipe store verify`` reads all results again.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lorapipe.errors import BuildError
from lorapipe.store.database import Database
from lorapipe.store.digest import FileState, Hashed, Progress, hash_file

__all__ = ["COARSE_NS", "FINE_NS", "Memo", "granularity_ns"]

FINE_NS = 50_000_000
"""Above the tick of every kernel's clock (at most 10 ms), with room for a loaded machine."""

COARSE_NS = 2_000_000_000
"""FAT keeps even seconds; ext3, HFS+ and some network file systems keep seconds."""


def granularity_ns(state: FileState) -> int:
    """How coarse the clock is that stamped ``state``, in ns.

    Both times on a whole second mean a clock of seconds: on a fine one that happens to
    ``mtime`` whenever a program sets it, but to ``ctime`` once in a hundred ticks or rarer.
    """
    whole = state.mtime_ns % 1_000_000_000 == 0 and state.ctime_ns % 1_000_000_000 == 0
    return COARSE_NS if whole else FINE_NS


@dataclass(frozen=True, slots=True)
class _Pending:
    path: Path
    state: FileState
    sha256: str


class Memo:
    """The digests that this machine knows. It costs time when it fails, never the build.

    ``clock`` (ns) and ``sleep`` (s) are there for tests.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._clock = clock
        self._sleep = sleep
        self._pending: list[_Pending] = []
        self._lock = threading.Lock()

    def lookup(self, file: Path | FileState) -> str | None:
        """The sha256 of a file in just this state, or None if it must be hashed.

        None also for a path that is not there.
        """
        if isinstance(file, FileState):
            state = file
        else:
            try:
                state = FileState.of(file)
            except OSError:
                return None
        rows = self._database.query(
            "SELECT sha256, guard FROM memo WHERE file = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?",
            _columns(state),
        )
        for sha256, guard in rows:
            # sqlite has no checksums: a flipped bit in here would pass for another file's content.
            if guard == _guard(state, sha256):
                return str(sha256)
        return None

    def remember(self, state: FileState, sha256: str, hashed_at_ns: int, path: Path | None = None) -> bool:
        """Keep a digest for good; False if the racy rule, or the store, does not let us.

        ``hashed_at_ns`` is the wall clock's time when hashing ended; ``path`` is where the file
        was, by which :meth:`forget_stale` sees whether it still is there.
        """
        if self._database.looking or hashed_at_ns - state.changed_ns <= granularity_ns(state):
            return False
        try:
            self._database.write(
                (
                    "INSERT OR REPLACE INTO memo VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        *_columns(state),
                        sha256,
                        _guard(state, sha256),
                        None if path is None else os.fsencode(path.absolute()),
                    ),
                )
            )
        except BuildError:
            return False
        return True

    def hash(self, path: Path, progress: Progress | None = None) -> Hashed:
        """A file's digest and state: remembered, or else read now and remembered.

        Raises as :func:`~lorapipe.store.digest.hash_file` does.
        """
        with suppress(OSError):  # a missing file is hash_file's to name
            state = FileState.of(path)
            known = self.lookup(state)
            if known is not None:
                return Hashed(known, state, self._clock())
        hashed = hash_file(path, progress)
        self.remember(hashed.state, hashed.sha256, hashed.ended_ns, path)
        return hashed

    def later(self, path: Path, state: FileState | None, sha256: str) -> None:
        """Note a file that lorapipe just wrote, its state after the rename; see :meth:`settle`.

        A ``state`` of None (another program wrote to it too) is not noted.
        """
        if state is not None and not self._database.looking:
            with self._lock:
                self._pending.append(_Pending(path, state, sha256))

    def settle(self, *, waiting: bool = True) -> None:
        """Wait out the granularity of what :meth:`later` noted, all at once, and remember it.

        A file that changed meanwhile is not remembered. No wait where nothing was noted, and
        none without ``waiting``: what is too young is then noted as before.
        """
        with self._lock:
            pending, self._pending = self._pending, []
            if not waiting:
                now = self._clock()
                self._pending = [p for p in pending if _ripe_ns(p) > now]
                pending = [p for p in pending if _ripe_ns(p) <= now]
        if not pending:
            return
        wait = max(map(_ripe_ns, pending)) - self._clock()
        if wait > 0:
            # A file server's clock may run ahead of ours: then it is not worth the waiting.
            self._sleep(min(wait, COARSE_NS) / 1e9)
        for each in pending:
            with suppress(OSError):
                if FileState.of(each.path) == each.state:
                    self.remember(each.state, each.sha256, self._clock(), each.path)

    def forget_stale(self, *, only_count: bool = False) -> int:
        """Drop the rows of files that are gone or in another state; returns how many those are.

        A file on a disk that is not there now is hashed again when it is back. ``only_count``
        drops nothing.
        """
        rows = self._database.query("SELECT file, size, mtime_ns, ctime_ns, path FROM memo")
        stale = [row[0] for row in rows if row[4] is None or not _still(os.fsdecode(row[4]), row[:4])]
        if stale and not only_count:
            self._database.write(*(("DELETE FROM memo WHERE file = ?", (file,)) for file in stale))
        return len(stale)


def _still(path: str, columns: tuple[object, ...]) -> bool:
    try:
        return _columns(FileState.of(Path(path))) == columns
    except (OSError, ValueError):
        return False


def _ripe_ns(pending: _Pending) -> int:
    """From when on a write to the file would show."""
    return pending.state.changed_ns + granularity_ns(pending.state) + 1


def _columns(state: FileState) -> tuple[str, int, int, int]:
    # As text: inode numbers of some file systems use all 64 bits, sqlite's integers have a sign.
    return (f"{state.dev}:{state.ino}", state.size, state.mtime_ns, state.ctime_ns)


def _guard(state: FileState, sha256: object) -> str:
    row = "|".join(map(str, (*_columns(state), sha256)))
    return hashlib.sha256(row.encode()).hexdigest()[:16]
