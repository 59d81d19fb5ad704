"""The one sqlite file under memo, journal and entries.

It holds nothing that cannot be found again: digests by hashing, ownership by the lock
file, entries by their manifests. So a damaged file is moved aside and started anew, and
a file that cannot be read counts as empty.

While only *looking* (``lorapipe plan``) nothing is created, not even sqlite's own ``-wal``
and ``-shm`` files. sqlite's read-only mode would leave those two behind in WAL mode, so a
database that nobody writes to at the moment is opened as immutable, and what was read
counts only if the file is still the same after it.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from lorapipe.errors import BuildError
from lorapipe.store.digest import FileState
from lorapipe.store.paths import StorePaths, unwritable
from lorapipe.store.places import another_folder

__all__ = ["SCHEMA_VERSION", "Database", "Statement"]

Statement = tuple[str, Sequence[Any]]
"""SQL with ``?`` holes, and what goes into them."""

# Each runs once, in order; `user_version` counts those that ran. One that was released never changes.
_MIGRATIONS = (
    """
    CREATE TABLE memo (
        file TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
        sha256 TEXT NOT NULL, guard TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE journal (
        number INTEGER PRIMARY KEY, path BLOB NOT NULL, sha256 TEXT NOT NULL, key TEXT NOT NULL,
        UNIQUE (path, sha256)
    );
    CREATE TABLE entries (
        key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, size INTEGER NOT NULL, used_ns INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
    # What outputs were made of, and by what one sees that a row is of use no more.
    """
    ALTER TABLE memo ADD COLUMN path BLOB;
    ALTER TABLE journal ADD COLUMN preimage TEXT NOT NULL DEFAULT '';
    ALTER TABLE journal ADD COLUMN lineage TEXT NOT NULL DEFAULT '';
    ALTER TABLE journal ADD COLUMN content TEXT NOT NULL DEFAULT '';
    ALTER TABLE journal ADD COLUMN noted_ns INTEGER NOT NULL DEFAULT 0;
    """,
    # Files elsewhere.
    """
    CREATE TABLE remote_memo (
        url TEXT PRIMARY KEY, size INTEGER NOT NULL, etag TEXT NOT NULL, sha256 TEXT NOT NULL,
        guard TEXT NOT NULL, noted_ns INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
)

SCHEMA_VERSION = len(_MIGRATIONS)


_SLICE_S = 0.2
"""Seconds that sqlite itself waits for another process."""

_DAMAGE = re.compile(r"no such (table|column)|has no column|already exists|malformed")


class _Damaged(Exception):  # a signal between two functions of this module, never seen outside
    """The file is not a database of ours, or not a whole one."""


class Database:
    """Rows in, rows out; opened by the first call that needs it, usable from several threads.

    ``looking`` means: never write, never create. Another process's transaction is waited
    for, at most ``patience_s`` seconds; ``waiting`` is called again and again meanwhile, and may
    raise to give up.
    """

    def __init__(
        self,
        paths: StorePaths,
        *,
        looking: bool = False,
        patience_s: float = 60.0,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self.looking = looking
        self._waiting = waiting
        self._paths = paths
        self._file = paths.database
        self._patience_s = patience_s
        self._connection: sqlite3.Connection | None = None
        self._seen: tuple[int, int] | None = None
        self._lock = threading.RLock()

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows found; none if there is no database, or none that can be read."""
        with self._lock:
            if not self._file.exists():
                return []
            # A read-only folder has no room for sqlite's own files.
            if self.looking or not os.access(self._paths.root, os.W_OK):
                return _look(self._file, sql, values)
            try:
                with self._faults():
                    return self._connected().execute(sql, values).fetchall()
            except _Damaged:
                with suppress(OSError):
                    self._start_anew()
            except BuildError:
                self.close()
            return []

    def write(self, *statements: Statement, durable: bool = False) -> None:
        """Run the statements in one transaction; ``durable`` ones survive a loss of power.

        Raises :class:`~lorapipe.errors.BuildError`: ``store-unwritable``, ``store-busy``,
        ``store-newer`` or ``disk-full``.
        """
        if self.looking:
            raise unwritable(self._paths.root, PermissionError("it was opened for looking"))
        with self._lock:
            try:
                self._write(statements, durable=durable)
            except _Damaged as error:
                self._mend_and_write(statements, durable=durable, fault=error)

    def prepare(self) -> None:
        """Open the file for writing now. Raises as :meth:`write` does."""
        self.write()

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()

    def _mend_and_write(self, statements: Sequence[Statement], *, durable: bool, fault: _Damaged) -> None:
        try:
            self._start_anew()
            self._write(statements, durable=durable)
        except (_Damaged, OSError) as error:
            raise unwritable(self._paths.root, fault.__cause__ or fault) from error

    def _write(self, statements: Sequence[Statement], *, durable: bool) -> None:
        with self._faults():
            connection = self._connected()
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._begin(connection)
            try:
                for sql, values in statements:
                    connection.execute(sql, values)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Wait for other processes' transactions, a slice at a time: within sqlite nobody hears Ctrl-C."""
        until = time.monotonic() + self._patience_s
        while not _begun(connection, patient=time.monotonic() < until):
            self._waiting()

    def _connected(self) -> sqlite3.Connection:
        # sqlite would go on writing to a file that someone deleted or moved aside.
        if self._connection is not None and _identity(self._file) != self._seen:
            self.close()
        if self._connection is None:
            self._paths.create()
            if not self._file.exists():
                self._bring_up_to_date()
            self._seen = _identity(self._file)
            self._connection = self._connect("rw", _SLICE_S)
            if _version(self._connection) != SCHEMA_VERSION:
                self.close()
                self._bring_up_to_date()
                self._seen = _identity(self._file)
                self._connection = self._connect("rw", _SLICE_S)
        return self._connection

    def _connect(self, mode: str, patience_s: float) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self._file.as_uri()}?mode={mode}",
            uri=True,
            timeout=min(patience_s, self._patience_s),
            isolation_level=None,
            check_same_thread=False,
        )

    def _bring_up_to_date(self) -> None:
        """Make the tables, alone: sqlite does not wait for others while it switches to WAL."""
        with self._alone():
            self._seen = _identity(self._file)
            with closing(self._connect("rwc", self._patience_s)) as connection:
                found = _version(connection)
                if found > SCHEMA_VERSION:
                    raise BuildError(
                        "store-newer",
                        f"the store {self._paths.root} was made by a newer lorapipe",
                        hint=f"update lorapipe, or {another_folder()}",
                    )
                connection.execute("PRAGMA journal_mode = WAL")
                for number, script in enumerate(_MIGRATIONS[found:], found + 1):
                    connection.executescript(
                        f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;"
                    )

    def _start_anew(self) -> None:
        """Move the damaged file aside, unless another process has done so meanwhile."""
        self.close()
        with self._alone():
            if self._seen is None or _identity(self._file) != self._seen:
                return
            # The database goes first: sqlite throws away a log that lies beside no database.
            for suffix in ("", "-wal", "-shm"):
                path = self._file.with_name(self._file.name + suffix)
                with suppress(FileNotFoundError):
                    path.replace(self._file.with_name(f"{self._file.name}.damaged{suffix}"))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the kernel lock under which the file is made or moved."""
        fd = os.open(self._paths.root / "index.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Sort sqlite's faults: damage, or an error that its user can mend."""
        try:
            yield
        except sqlite3.OperationalError as error:
            text = str(error)
            if _DAMAGE.search(text):
                raise _Damaged from error
            if "full" in text:
                raise BuildError("disk-full", f"no space left for {self._file}") from error
            if "locked" in text:
                waited = f"another process has held {self._file} for {self._patience_s:g} s"
                raise BuildError("store-busy", waited, hint="run again when it has ended") from error
            raise unwritable(self._paths.root, error) from error
        except sqlite3.DatabaseError as error:
            # The class itself is what sqlite3 raises for damage; its heirs are mistakes of ours.
            if type(error) is not sqlite3.DatabaseError:
                raise
            raise _Damaged from error
        except OSError as error:
            raise unwritable(self._paths.root, error) from error


def _begun(connection: sqlite3.Connection, *, patient: bool) -> bool:
    """Begin a transaction; false if another process is at one, and ``patient``."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if patient and "locked" in str(error):
            return False
        raise
    return True


def _look(file: Path, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Read without leaving a trace; no rows if others write too often for that."""
    for _ in range(5):
        before = _quiet_state(file)
        mode = "mode=ro" if before is None else "immutable=1"
        try:
            with closing(sqlite3.connect(f"{file.as_uri()}?{mode}", uri=True)) as connection:
                if _version(connection) != SCHEMA_VERSION:
                    return []
                rows = connection.execute(sql, values).fetchall()
        except sqlite3.Error:
            # Torn by a writer, whom the states then betray, or damaged.
            rows = []
        if before is None or before == _quiet_state(file):
            return rows
    return []


def _quiet_state(file: Path) -> FileState | None:
    """The database's state, or None while a log lies beside it: someone writes, or was killed writing."""
    with suppress(OSError):
        state = FileState.of(file)
        log = file.with_name(file.name + "-wal")
        if not log.exists() or log.stat().st_size == 0:
            return state
    return None


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        return FileState.of(file).identity
    except OSError:
        return None


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
