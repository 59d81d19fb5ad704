"""What a shared store says of itself: which version it is, and which result each key has."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence

from lorapipe.store.manifest import Entry, parse_manifest, to_json
from lorapipe.store.paths import StorePaths
from lorapipe.store.shared.bucket import Bucket, GoOn, Missing, Trouble, go_on
from lorapipe.store.shared.layout import MARKER, MARKER_TEXT, VERSION, manifest_name, version_of

__all__ = ["Catalog", "Lie", "Unusable"]

_MOST = 8 << 20
"""Bytes of a manifest; that of a result of ten thousand steps has a few."""

_BATCH = 256
"""Manifests that are asked for at once: there may be thousands, and all of them are in memory then."""


class Lie(Exception):  # a signal between the modules of this folder, never seen outside
    """A manifest that is none, or not this key's."""


class Unusable(Trouble):
    """The place has no store that this lorapipe understands."""


class Catalog:
    """The marker and the manifests of the store in ``bucket``; each method may raise what that raises.

    Entries name the blobs that they will have in the local store of ``paths``.
    """

    def __init__(self, bucket: Bucket, paths: StorePaths) -> None:
        self._bucket = bucket
        self._paths = paths
        self._marked = False
        self._lock = threading.Lock()

    def entries(
        self, keys: Sequence[str], waiting: GoOn = go_on
    ) -> Iterator[tuple[str, Entry | Lie | Trouble]]:
        """What the store has of the keys, asked for at once; nothing of a key that it does not have.

        Raises :class:`~lorapipe.store.shared.bucket.Trouble` where the store itself cannot be used.
        """
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            for key, found in zip(batch, self._read(batch, waiting), strict=True):
                if isinstance(found, bytes):
                    yield key, self._parsed(key, found)
                elif isinstance(found, Trouble) and not found.refused:
                    # What is refused is not there: so S3 answers who may not list the bucket.
                    yield key, found

    def entry(self, key: str) -> Entry | Lie | Trouble | None:
        """What the store has of one key."""
        return next((found for _, found in self.entries([key])), None)

    def present(self) -> bool:
        """Whether there is a store. Raises as :meth:`entries`."""
        self._read([])
        return self._marked

    def mark(self) -> None:
        """See that the store says what it is: who is the first to write to it says so."""
        with self._lock:
            if not self._marked and self._bucket.write(MARKER, MARKER_TEXT, replace=False):
                self._marked = True
        if not self._marked:
            self._read([])

    def write(self, entry: Entry, *, replace: bool) -> bool:
        """Let a key lead to its result; False if it leads somewhere already, and ``replace`` is."""
        text = to_json(entry)
        return len(text) > _MOST or self._bucket.write(manifest_name(entry.key), text, replace=replace)

    def _read(self, keys: Iterable[str], waiting: GoOn = go_on) -> list[bytes | Missing | Trouble]:
        names = [manifest_name(key) for key in keys]
        if self._marked:
            return self._bucket.read(names, _MOST, waiting)
        marker, *found = self._bucket.read([MARKER, *names], _MOST, waiting)
        if isinstance(marker, Trouble):
            raise marker
        if isinstance(marker, Missing):  # nothing counts before it is there; somebody may be writing it
            return [marker for _ in names]
        version = version_of(marker)
        if version is None or version > VERSION:
            raise Unusable("something else is there" if version is None else "a newer lorapipe made it")
        self._marked = True
        return found

    def _parsed(self, key: str, text: bytes) -> Entry | Lie:
        """The entry that a manifest tells of: a stranger may have written it."""
        entry = parse_manifest(text, self._paths, key) if len(text) <= _MOST else None
        if entry is None or entry.size < 0 or _digest(entry.preimage) != key:
            return Lie()
        return entry


def _digest(preimage: str) -> str:
    return hashlib.sha256(preimage.encode("utf-8", "surrogatepass")).hexdigest()
