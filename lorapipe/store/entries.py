"""Results of stored kinds, kept by content key and shared by all recipes of a user.

A result is a blob named by its sha256; a manifest leads from a key to it and holds the
key's preimage (what the key was made of), so that one can see why a key was missed.
The manifest is written last, so an entry is there wholly or not at all. The table
``entries`` only notes when each was last used, for the eviction of the least recent
(:mod:`~lorapipe.store.eviction`). A second key may lead to a result as an alias.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, cast

from lorapipe.errors import BuildError, InputError
from lorapipe.store.atomic import Hook, stage
from lorapipe.store.database import Database
from lorapipe.store.digest import FileState, HashingFile, is_sha256
from lorapipe.store.manifest import Entry, read_manifest, to_json
from lorapipe.store.memo import Memo
from lorapipe.store.paths import StorePaths, unwritable
from lorapipe.store.temporaries import sweep

__all__ = ["Entries", "Entry", "Write"]

Write = Callable[[BinaryIO], object]
"""Writes a result from its first byte to its last; the file cannot seek."""

_POLL_S = 0.1


class Entries:
    """The results that the store holds. Keys are 64 hexadecimal digits (``ValueError`` otherwise)."""

    def __init__(self, paths: StorePaths, database: Database, memo: Memo, *, hook: Hook) -> None:
        self._paths = paths
        self._database = database
        self._memo = memo
        self._hook = hook
        self._in_use: set[str] = set()

    @property
    def in_use(self) -> frozenset[str]:
        """The sha256 of each result that was got or put since the store was opened."""
        return frozenset(self._in_use)

    def peek(self, key: str) -> Entry | None:
        """The entry, if manifest and blob are there and agree in size. Reads no data, writes nothing."""
        entry = read_manifest(self._paths, key)
        if entry is None or _size(entry.path) != entry.size:
            return None
        return entry

    def get(self, key: str) -> Entry | None:
        """The entry, its blob verified by sha256 (from the memo, where the blob is as it was).

        One that is damaged or gone is dropped and counts as a miss; ``looking`` drops nothing.
        """
        entry = self.peek(key)
        if entry is None or not self._whole(entry):
            if not self._database.looking:
                self.drop(key)
            return None
        self._used(entry)
        return entry

    def put(
        self,
        key: str,
        write: Write,
        preimage: str,
        *,
        needed: int | None = None,
        notes: Mapping[str, object] = MappingProxyType({}),
        lineage: str = "",
    ) -> Entry:
        """Write a result and keep it under ``key``, replacing what was there.

        ``needed`` is its size in bytes, where known; the rest is as in :class:`Entry`. Raises
        :class:`~lorapipe.errors.BuildError` ``disk-full`` or ``store-unwritable``, and
        whatever ``write`` raises; then the store is as before.
        """
        self._paths.manifest(key)  # a bad key must fail before the work
        self._database.prepare()
        sweep(self._paths.temp)
        with self._faults():
            with stage(self._paths.temp / "blob", needed=needed, hook=self._hook, label="blob") as staged:
                sink = HashingFile(staged.file)
                write(cast("BinaryIO", sink))
                blob = self._paths.blob(sink.sha256)
                state = staged.publish(to=blob)
            entry = Entry(key, blob, sink.sha256, sink.size, preimage, notes, lineage)
            self._write_manifest(entry)
        self._memo.later(blob, state, entry.sha256)
        self._used(entry)
        return entry

    def take(self, entry: Entry, chunks: Iterable[bytes]) -> Entry | None:
        """Keep a result that was made elsewhere, if ``chunks`` are the bytes that ``entry`` says they are.

        ``None`` if they are not: then the store is as before. They are not asked for where the blob is
        here under another key. Raises :class:`~lorapipe.errors.BuildError` as :meth:`put`, and whatever
        ``chunks`` raise.
        """
        self._database.prepare()
        sweep(self._paths.temp)
        with self._faults():
            if not self._whole(entry):
                state = self._received(entry, chunks)
                if state is None:
                    return None
                self._memo.later(entry.path, state, entry.sha256)
            self._write_manifest(entry)
        self._used(entry)
        return entry

    def _received(self, entry: Entry, chunks: Iterable[bytes]) -> FileState | None:
        with stage(self._paths.temp / "blob", needed=entry.size, hook=self._hook, label="fetch") as staged:
            sink = HashingFile(staged.file)
            for chunk in chunks:
                sink.write(chunk)
            if (sink.size, sink.sha256) != (entry.size, entry.sha256):
                return None
            return staged.publish(to=entry.path)

    def link(self, key: str, entry: Entry, preimage: str, *, lineage: str = "", alias: bool = False) -> Entry:
        """Let another key lead to the result of ``entry``; as an ``alias`` it is not listed.

        Raises :class:`~lorapipe.errors.BuildError` as :meth:`put`.
        """
        linked = replace(entry, key=key, preimage=preimage, lineage=lineage, of=entry.key if alias else None)
        self._database.prepare()
        with self._faults():
            self._write_manifest(linked)
        self._used(linked)
        return linked

    def obtain(
        self,
        key: str,
        write: Write,
        preimage: str,
        *,
        needed: int | None = None,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> tuple[Entry, bool]:
        """The entry, and whether it was built by this call.

        Of several processes that want the same key at once one builds; the others wait and use it.
        """
        found = self.get(key)
        if found is not None:
            return found, False
        with self.lock(key, checkpoint=checkpoint):
            found = self.get(key)
            if found is not None:
                return found, False
            return self.put(key, write, preimage, needed=needed), True

    @contextmanager
    def lock(self, key: str, *, checkpoint: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the key's kernel lock, waiting for it as long as need be; a death frees it.

        ``checkpoint`` is called while waiting and may raise to give up. A thread that
        holds the lock must not ask for it again.
        """
        import filelock  # 40 ms that a build with nothing to do can spare

        path = self._paths.lock(key)
        self._database.prepare()
        lock = filelock.FileLock(path)
        try:
            path.parent.mkdir(exist_ok=True)
            while not lock.is_locked:
                checkpoint()
                with suppress(filelock.Timeout):
                    lock.acquire(timeout=_POLL_S, poll_interval=_POLL_S / 2)
        except OSError as error:
            raise unwritable(self._paths.root, error) from error
        try:
            yield
        finally:
            lock.release()

    def drop(self, key: str) -> None:
        """Forget an entry. Its blob stays: another key may lead to it, another process may read it."""
        with suppress(OSError):
            self._paths.manifest(key).unlink()
        with suppress(BuildError):
            self._database.write(("DELETE FROM entries WHERE key = ?", (key,)))

    def all(self) -> Iterator[Entry]:
        """Every entry whose manifest is sound, whether or not its blob is there; writes nothing."""
        for path in sorted(self._paths.manifests.glob("??/*.json")):
            if is_sha256(path.stem) and (entry := read_manifest(self._paths, path.stem)) is not None:
                yield entry

    @contextmanager
    def held(self, keys: Iterable[str]) -> Iterator[bool]:
        """Hold the locks of all ``keys`` without waiting; False, and no lock, if one is another's."""
        import filelock  # as in lock

        with ExitStack() as stack:
            try:
                for key in keys:
                    path = self._paths.lock(key)
                    path.parent.mkdir(exist_ok=True)
                    stack.enter_context(filelock.FileLock(path).acquire(timeout=0))
            except (filelock.Timeout, OSError):
                stack.close()
                yield False
            else:
                yield True

    def _write_manifest(self, entry: Entry) -> None:
        with stage(self._paths.temp / "manifest", hook=self._hook, label="manifest") as staged:
            staged.file.write(to_json(entry))
            staged.publish(to=self._paths.manifest(entry.key))

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Call the store by its name where its folder refuses: the user never named the blob."""
        try:
            yield
        except BuildError as error:
            if error.code == "output-unwritable" and isinstance(error.__cause__, OSError):
                raise unwritable(self._paths.root, error.__cause__) from error
            raise

    def _whole(self, entry: Entry) -> bool:
        try:
            return _size(entry.path) == entry.size and self._memo.hash(entry.path).sha256 == entry.sha256
        except InputError:
            return False

    def _used(self, entry: Entry) -> None:
        self._in_use.add(entry.sha256)
        # The table only orders the eviction; without a row an entry is as good as long unused.
        with suppress(BuildError):
            self._database.write(
                (
                    "INSERT OR REPLACE INTO entries (key, sha256, size, used_ns) VALUES (?, ?, ?, ?)",
                    (entry.key, entry.sha256, entry.size, time.time_ns()),
                )
            )


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
