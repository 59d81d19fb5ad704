"""The shared store behind the local one: asked for what is not here, given what was made here.

Nothing of it can fail a build: what it does not have, does not give or has wrong is built here, and
``troubles`` tell of it. Nor can it give other bytes than a manifest says: a blob is held against its
sha256 while it is fetched. But who may write it decides which result a key has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping

from lorapipe.errors import BuildError
from lorapipe.store.entries import Entries
from lorapipe.store.manifest import Entry
from lorapipe.store.paths import StorePaths
from lorapipe.store.shared.bucket import Bucket, GoOn, Missing, Trouble, go_on, open_bucket
from lorapipe.store.shared.catalog import Catalog, Lie, Unusable
from lorapipe.store.shared.giving import Giving, Told
from lorapipe.store.shared.layout import blob_name

__all__ = ["Behind", "Fetched"]

_NAMED = 3
"""Keys that a sentence names; of more their number has to do."""

Fetched = Callable[[int, int], None]
"""Told the bytes that were fetched of a result, and its size."""


def _unseen(done: int, total: int) -> None:
    pass


class Behind:
    """The shared store at ``url``, as the store of this machine uses it; usable from several threads.

    Nothing is asked before the first call. ``waiting`` is called while somebody waits for the server,
    and ends that by what it raises; nobody waits for what is given. Who calls :meth:`fetch` or
    :meth:`settle` holds the key's lock. Every method may raise
    :class:`~lorapipe.errors.UsageError` ``extra-missing``.

    ``at_once`` is for a build of several machines, of which each needs what others make: what is
    given is there when :meth:`give` returns, or it raises :class:`~lorapipe.errors.BuildError`
    ``not-shared``.
    """

    def __init__(self, url: str, paths: StorePaths, entries: Entries, *, waiting: GoOn = go_on) -> None:
        self.url = url
        self.at_once = False
        self._paths = paths
        self._entries = entries
        self._waiting = waiting
        self._opened: tuple[Bucket, Catalog] | None = None
        self._lock = threading.RLock()
        self._giving = Giving()
        self._blobs: dict[str, threading.Lock] = {}
        self._unread: str | None = None
        self._ungiven: str | None = None
        self._fetched: set[str] = set()
        self._distrusted: set[str] = set()
        self._damaged: dict[str, None] = {}
        self._overtaken: dict[str, bool] = {}

    @property
    def unasked(self) -> str | None:
        """Why it is not asked for anything, in a sentence; ``None`` while it is."""
        return None if self._unread is None else f"the shared store {self.url} is not asked: {self._unread}"

    @property
    def troubles(self) -> tuple[str, ...]:
        """What did not go as it should so far, each in a sentence."""
        with self._lock:
            found = []
            if self._ungiven is not None and self._ungiven != self._unread:
                found.append(f"was not given all results: {self._ungiven}")
            if self._damaged:
                found.append(f"has damaged results, which are built here: {_keys(self._damaged)}")
            if self._overtaken:
                said = "was given other results meanwhile, which the next build takes"
                found.append(f"{said}: {_keys(self._overtaken)}")
            others = tuple(f"the shared store {self.url} {what}" for what in found)
            return others if self.unasked is None else (self.unasked, *others)

    @property
    def whole(self) -> bool:
        """Whether all that was to be given was given, once :meth:`finish` has returned."""
        return self._ungiven is None

    @property
    def fetched(self) -> bool:
        """Whether anything was fetched, or was to be."""
        return bool(self._fetched)

    def look(self, keys: Collection[str]) -> Mapping[str, int]:
        """Which of the keys it has, with the bytes of their results; all are asked for at once."""
        return {key: entry.size for key, entry in self._entries_of(keys)}

    def fetch(self, key: str, told: Fetched = _unseen) -> Entry | None:
        """Bring a result into the local store; ``None`` if it is not there, or not what it should be.

        What was no good once is not asked for again.
        """
        for _, entry in self._entries_of([key]):
            taken = self._taken(entry, told)
            if taken is None:
                self.give_up(key)
            return taken
        return None

    def _taken(self, entry: Entry, told: Fetched) -> Entry | None:
        bucket, done = self.opened()[0], 0
        self._fetched.add(entry.key)

        def chunks() -> Iterator[bytes]:
            nonlocal done
            for chunk in bucket.chunks(blob_name(entry.sha256), entry.size, self._waiting):
                done += len(chunk)
                yield chunk
                told(min(done, entry.size), entry.size)

        try:
            taken = self._entries.take(entry, chunks())
        except Missing:  # a bucket may have a rule by which old results go before their manifests
            return None
        except Trouble as trouble:
            self._unread = self._unread or trouble.reason
            return None
        except BuildError as error:
            if error.code not in ("store-unwritable", "disk-full"):
                raise
            return None  # the local store's trouble: the build does without, as it does elsewhere
        if taken is None:
            self.distrust(entry.key)
        return taken

    def give_up(self, key: str) -> None:
        """Take no result of this key any more."""
        with self._lock:
            self._distrusted.add(key)

    def distrust(self, key: str) -> None:
        """As :meth:`give_up`: what is here of it is no result, or not its step's."""
        with self._lock:
            self._distrusted.add(key)
            if key in self._fetched:
                self._damaged[key] = None

    def settle(self, entry: Entry, told: Fetched = _unseen) -> Entry:
        """What counts as the result of a key that was just built: the shared store's, if it got one.

        Another machine may have built the same meanwhile, with other last bits, and all who come
        after it are to have the same bytes. Otherwise the entry is given to the shared store, beside
        whatever comes next.
        """
        for _, theirs in self._entries_of([entry.key]):
            if theirs.sha256 == entry.sha256:
                return entry
            if (taken := self.fetch(entry.key, told)) is not None:
                return taken
        self.give(entry)
        return entry

    def give(self, entry: Entry) -> None:
        """Upload what the store lacks of a result, beside the work; :meth:`finish` waits for it."""
        if self._ungiven is None:
            with self._lock:  # several keys may lead to a blob, which goes once
                known = entry.sha256 in self._blobs
                turn = self._blobs.setdefault(entry.sha256, threading.Lock())
            self._giving.later(lambda sent: self._give(entry, turn, sent), 0 if known else entry.size)
        if self.at_once:
            self.finish()
            if self._ungiven is not None:
                message = f"the shared store {self.url} was not given a result: {self._ungiven}"
                raise BuildError("not-shared", message, hint="the machines of this build pass results by it")

    def finish(self, told: Told = _unseen) -> None:
        """Wait until all is given. Of a key that others were faster with, theirs is taken from now on."""
        self._giving.finish(told)
        for key, dropped in tuple(self._overtaken.items()):
            if not dropped:
                self._entries.drop(key)
                self._overtaken[key] = True

    def abandon(self) -> None:
        """Give no more: who stops a build does not wait."""
        self._giving.abandon()

    def _give(self, entry: Entry, turn: threading.Lock, sent: Callable[[int], None]) -> None:
        """Upload, on a thread of its own; the manifest last, so that an entry is there wholly or not."""
        if self._ungiven is not None:
            return
        mending = entry.key in self._distrusted
        try:
            bucket, catalog = self.opened()
            catalog.mark()
            name = blob_name(entry.sha256)
            with turn:
                if mending or bucket.size(name) != entry.size:
                    bucket.send(name, entry.path, sent)
            if not catalog.write(entry, replace=mending):
                self._compare(entry, catalog.entry(entry.key))
        except Trouble as trouble:
            self._ungiven = self._ungiven or trouble.reason
        except OSError as error:  # another process has let the local blob go, or the disk fails
            self._ungiven = self._ungiven or (error.strerror or str(error))

    def _compare(self, ours: Entry, theirs: Entry | Lie | Trouble | None) -> None:
        """Somebody was faster: whose result counts is no matter where both are the same."""
        if isinstance(theirs, Entry) and theirs.sha256 != ours.sha256 and ours.of is None:
            with self._lock:
                self._overtaken[ours.key] = False

    def _entries_of(self, keys: Collection[str]) -> Iterator[tuple[str, Entry]]:
        """The entries of those keys that have one, and one that may be believed."""
        asked = [key for key in keys if key not in self._distrusted]
        if self._unread is not None or not asked:
            return
        try:
            for key, found in self.opened()[1].entries(asked, self._waiting):
                if isinstance(found, Trouble):
                    raise found
                if isinstance(found, Lie):
                    self._fetched.add(key)
                    self.distrust(key)
                else:
                    yield key, found
        except Trouble as trouble:
            self._unread = trouble.reason
            # Who is refused what is not there may yet be the first to write it.
            if isinstance(trouble, Unusable) or not trouble.refused:
                self._ungiven = trouble.reason

    def opened(self) -> tuple[Bucket, Catalog]:
        """The place itself, and what is in it: for its upkeep, which hears of every trouble."""
        with self._lock:
            if self._opened is None:
                bucket = open_bucket(self.url)
                self._opened = bucket, Catalog(bucket, self._paths)
            return self._opened


def _keys(keys: Collection[str]) -> str:
    named = ", ".join(key[:12] for key in list(keys)[:_NAMED])
    return named if len(keys) <= _NAMED else f"{named} and {len(keys) - _NAMED} more"
