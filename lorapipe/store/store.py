"""A store opened: what a build uses of it, in one value."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING

from lorapipe.errors import BuildError, Interrupted
from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Location, Url
from lorapipe.store.atomic import Hook, Staged, no_hook, stage
from lorapipe.store.contents import listing_digest, walk
from lorapipe.store.database import Database
from lorapipe.store.digest import FileState, Hashed
from lorapipe.store.entries import Entries
from lorapipe.store.folders import Resumption, StagedFolder, stage_folder
from lorapipe.store.journal import UNKNOWN, Journal, Making
from lorapipe.store.manifest import Entry
from lorapipe.store.memo import Memo
from lorapipe.store.part_files import StagedPart
from lorapipe.store.paths import StorePaths
from lorapipe.store.pins import Pins
from lorapipe.store.places import Places, another_folder, find_places
from lorapipe.store.remote_memo import RemoteMemo
from lorapipe.store.shared.behind import Behind, Fetched
from lorapipe.store.temporaries import part_of
from lorapipe.store.uploads import Sending, StagedObject, StagedObjects

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Known", "Reading", "Store", "Waiting", "open_store"]

Reading = Callable[[Path, int, int], None]
"""Told the path, the bytes read, and the size, while a file is hashed."""

Known = Mapping[str, tuple[int, str]]
"""Files of a folder by relative name: bytes and sha256, as who made them told."""

Waiting = Callable[[], None]
"""Called again and again while another process is waited for; it may raise to give up."""


def _unseen(path: Path, done: int, total: int) -> None:
    pass


def _unfetched(done: int, total: int) -> None:
    pass


def _unwaited() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Store:
    """Made by :func:`open_store`. As a context manager it closes itself."""

    paths: StorePaths
    database: Database
    memo: Memo
    remote_memo: RemoteMemo
    journal: Journal
    entries: Entries
    pins: Pins
    hook: Hook
    shared: Behind | None = None

    def find(self, key: str, fetched: Fetched = _unfetched) -> Entry | None:
        """The result of a key, its blob verified: from here, or else from the shared store.

        Who else may want it holds its lock.
        """
        found = self.entries.get(key)
        if found is None and self.shared is not None and not self.database.looking:
            found = self.shared.fetch(key, fetched)
        return found

    def settle(self, entry: Entry, fetched: Fetched = _unfetched) -> Entry:
        """What counts as the result of a key that was just built; see :meth:`Behind.settle`."""
        return entry if self.shared is None else self.shared.settle(entry, fetched)

    def link(self, key: str, entry: Entry, preimage: str, *, lineage: str = "", alias: bool = False) -> Entry:
        """Let another key lead to a result, here and in the shared store; see :meth:`Entries.link`."""
        linked = self.entries.link(key, entry, preimage, lineage=lineage, alias=alias)
        if self.shared is not None:
            self.shared.give(linked)
        return linked

    def disown(self, key: str) -> None:
        """Let go of a result that is not what its key says, and take it from nowhere else either."""
        self.entries.drop(key)
        if self.shared is not None:
            self.shared.distrust(key)

    def stage(self, path: Path, *, needed: int | None = None) -> Staged:
        """An output on its way to ``path``; see :func:`~lorapipe.store.atomic.stage`.

        A store that cannot take the journal's record is found out now, before the work.
        """
        self.database.prepare()
        return stage(path, needed=needed, hook=self.hook)

    def publish(
        self, staged: Staged, sha256: str, key: str, *, replacing: str | None = None, making: Making = UNKNOWN
    ) -> FileState | None:
        """Let a staged output appear: on the disk, then in the journal, then under its name.

        ``replacing`` is the digest of the file there now, if it is ours. The digest is
        memoised when the store is closed. Raises :class:`~lorapipe.errors.BuildError`.
        """
        staged.seal()
        self._record(staged.path, sha256, key, replacing, making)
        state = staged.publish()
        self.memo.later(staged.path, state, sha256)
        return state

    def stage_folder(
        self,
        path: Path,
        *,
        needed: int | None = None,
        key: str | None = None,
        progress: Reading = _unseen,
        known: Known = MappingProxyType({}),
        waiting: Waiting | None = None,
    ) -> StagedFolder:
        """An output folder on its way to ``path``; otherwise as :meth:`stage`.

        With a ``key``, which decides all its bytes, it goes on with the files that an interrupted
        build of the same finished, or that others brought (:meth:`stage_part`). They are read anew
        unless the memo knows them, which is told to ``progress``, or they are ``known`` from who made
        them. With ``waiting`` those who are at work on it are waited for.
        """
        self.database.prepare()
        resumption = None
        if key is not None:
            told = {part_of(path, key) / name: of for name, of in known.items()}
            resumption = self._resumption(key, progress, told, waiting)
        return stage_folder(path, needed=needed, hook=self.hook, label="folder", resumption=resumption)

    def stage_part(
        self, path: Path, name: str, key: str, *, waiting: Waiting, progress: Reading = _unseen
    ) -> StagedPart:
        """One file of the output folder at ``path`` to be, while other processes make the others.

        ``key`` decides all bytes of the folder, ``name`` is relative to it. Who has the folder alone
        is waited for. Raises :class:`~lorapipe.errors.BuildError`.
        """
        self.database.prepare()
        resumption = self._resumption(key, progress, {}, waiting)
        return StagedPart(path, name, resumption, hook=self.hook)

    def finished(self, path: Path, key: str) -> Mapping[str, int]:
        """Sizes in bytes of the files that an interrupted build of ``path`` has left, by relative name.

        None of them is read: a build that goes on with them does that.
        """
        part = part_of(path, key)
        if not part.is_dir():
            return {}
        names = [name for name, regular in walk(part) if regular]
        return {
            name: (part / name).stat().st_size
            for name in names
            if any(known.key == key for known in self.journal.last(part / name))
        }

    def _resumption(
        self,
        key: str,
        progress: Reading,
        told: Mapping[Path, tuple[int, str]],
        waiting: Waiting | None,
    ) -> Resumption:
        def whole(path: Path) -> Hashed | None:
            state = FileState.of(path)
            size, sha256 = told.get(path, (-1, ""))
            # Of a file that another machine made our memo may know nothing.
            if state.size == size and self.memo.lookup(state) in (None, sha256):
                return Hashed(sha256, state, time.time_ns())
            recorded = {known.sha256 for known in self.journal.last(path) if known.key == key}
            if not recorded:  # it need not be read to learn that
                return None
            hashed = self.memo.hash(path, partial(progress, path))
            return hashed if hashed.sha256 in recorded else None

        def record(path: Path, state: FileState, sha256: str) -> None:
            self.journal.record(path, sha256, key)
            # Those before it are old enough by now: the next build need not read them.
            self.memo.settle(waiting=False)
            self.memo.later(path, state, sha256)

        return Resumption(key, whole, record, self.journal.forget, waiting)

    def stage_upload(
        self, url: Url, sending: Sending, *, needed: int | None = None
    ) -> StagedObject | StagedObjects:
        """An output on its way to a URL: a folder, if that ends in a slash, else a file of ``needed`` bytes.

        Otherwise as :meth:`stage`.
        """
        self.database.prepare()
        if url.is_folder:
            return StagedObjects(url, sending=sending, hook=self.hook)
        return StagedObject(url, needed=needed, sending=sending, hook=self.hook)

    def publish_upload(
        self,
        staged: StagedObject | StagedObjects,
        sha256: str,
        files: Mapping[str, str],
        key: str,
        *,
        replacing: str | None = None,
        making: Making = UNKNOWN,
    ) -> Mapping[str, RemoteState | None]:
        """Let a staged output appear; returns the states of its ``files``, ``""`` where it is one.

        Of a folder the journal has each file, too: the files appear one after the other, and a build
        that dies meanwhile leaves some. Otherwise as :meth:`publish`.
        """
        staged.seal()
        self._record(staged.path, sha256, key, replacing, making)
        if isinstance(staged, StagedObject):
            states: Mapping[str, RemoteState | None] = {"": staged.publish()}
        else:
            for name, digest in files.items():
                self.journal.record(staged.path / name, digest, key)
            states = staged.publish()
        for name, found in states.items():
            if found is not None:
                url = staged.path / name if name else staged.path
                self.remote_memo.remember(url, found, files[name])
        return states

    def publish_folder(
        self,
        staged: StagedFolder,
        files: Mapping[str, str],
        key: str,
        *,
        replacing: str | None = None,
        making: Making = UNKNOWN,
    ) -> None:
        """Let a staged folder appear; ``files`` are the sha256 of all that is in it, by relative name.

        The journal knows the folder by :func:`~lorapipe.store.contents.listing_digest`, the memo
        each file. Otherwise as :meth:`publish`.
        """
        staged.seal()
        self._record(staged.path, listing_digest(files), key, replacing, making)
        for name, state in staged.publish().items():
            self.memo.later(staged.path / name, state, files[name])

    def _record(self, path: Location, sha256: str, key: str, replacing: str | None, making: Making) -> None:
        self.hook("journal:record")
        self.journal.record(path, sha256, key, replacing=replacing, making=making)
        self.hook("journal:recorded")

    def close(self, *, waiting: bool = True) -> None:
        """Memoise what was written, which waits out the file system's clock, and let go."""
        try:
            self.memo.settle(waiting=waiting)
        finally:
            self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Who stops a build does not wait.
        self.close(waiting=kind is None or not issubclass(kind, KeyboardInterrupt | Interrupted))


def open_store(
    root: Path | Places | None = None,
    *,
    looking: bool = False,
    hook: Hook = no_hook,
    waiting: Waiting = _unwaited,
) -> Store:
    """The store at ``root``, else where :func:`~lorapipe.store.places.find_places` finds it.

    A folder has no shared store behind it.

    Touches no file: the first write creates the store, and one opened for ``looking`` writes
    nothing at all. ``hook`` is called at each point where a crash would matter, ``waiting`` while
    another process writes to the database. Raises
    :class:`~lorapipe.errors.BuildError` ``store-unreadable``.
    """
    places = Places(root) if isinstance(root, Path) else root or find_places()
    paths = StorePaths(places.root)
    _check_readable(paths.root)
    database = Database(paths, looking=looking, waiting=waiting)
    memo = Memo(database)
    entries = Entries(paths, database, memo, hook=hook)
    waiting = partial(hook, "fetch:wait")
    shared = None if places.shared is None else Behind(places.shared, paths, entries, waiting=waiting)
    remote_memo, journal = RemoteMemo(database), Journal(database)
    return Store(paths, database, memo, remote_memo, journal, entries, Pins(paths), hook, shared)


def _check_readable(root: Path) -> None:
    """See that a store is not another user's: it would look empty in some places, and fail in others."""
    try:
        readable = not root.is_dir() or os.access(root, os.R_OK | os.X_OK)
    except OSError:  # a folder above it is another user's
        readable = False
    if not readable:
        message, hint = (
            f"the store {root} cannot be read: permission denied",
            another_folder(),
        )
        raise BuildError("store-unreadable", message, hint=hint)
