"""Which results go when the store is larger than it should be: those unused for longest.

A result goes with all keys that lead to it. Its keys' locks are held meanwhile, without
waiting for them: a result that a process is just building or opening stays. One that has
it open reads on, since a file lives until the last that opened it closes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lorapipe.store.digest import is_sha256
from lorapipe.store.manifest import Entry
from lorapipe.store.store import Store

__all__ = ["Kept", "blobs", "evict", "kept_results", "surplus"]


@dataclass(frozen=True, slots=True)
class Kept:
    """A result that is there: its size in bytes, when it was last used (ns since 1970), who leads to it.

    ``entries`` are the keys that it was built for, aliases last.
    """

    sha256: str
    size: int
    used_ns: int
    pinned: bool
    entries: tuple[Entry, ...]

    @property
    def key(self) -> str:
        return self.entries[0].key


def kept_results(store: Store) -> tuple[Kept, ...]:
    """All results of a store, the last used first; reads no data, writes nothing."""
    leading: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in store.entries.all():
        leading[entry.sha256].append(entry)
    used = dict(store.database.query("SELECT key, used_ns FROM entries"))
    pins = store.pins.keys()
    found = []
    for path in blobs(store):
        entries = tuple(sorted(leading[path.name], key=lambda entry: (entry.of is not None, entry.key)))
        with suppress(OSError):  # another process took it away
            if entries:
                at = max(used[e.key] if e.key in used else _written(store, e) for e in entries)
                pinned = any(entry.key in pins for entry in entries)
                found.append(Kept(path.name, path.stat().st_size, int(at), pinned, entries))
    return tuple(sorted(found, key=lambda kept: (-kept.used_ns, kept.sha256)))


def blobs(store: Store) -> Iterator[Path]:
    """Every blob in the store's folder."""
    yield from sorted(path for path in store.paths.blobs.glob("??/*") if is_sha256(path.name))


def _written(store: Store, entry: Entry) -> int:
    """When an entry without a row in the database was made."""
    return store.paths.manifest(entry.key).stat().st_mtime_ns


def surplus(
    kept: Iterable[Kept], *, most: int | None, unused_since: int = 0, spare: Collection[str] = ()
) -> tuple[Kept, ...]:
    """Which results should go, the longest unused first, so that the rest has at most ``most`` bytes.

    In any case those not used since ``unused_since`` (ns) go. Pinned ones and those of ``spare``
    (sha256) stay, even if they alone are more.
    """
    going = []
    results = sorted(kept, key=lambda each: each.used_ns)
    size = sum(each.size for each in results)
    for each in results:
        if each.pinned or each.sha256 in spare:
            continue
        if each.used_ns < unused_since or (most is not None and size > most):
            going.append(each)
            size -= each.size
    return tuple(going)


def evict(store: Store, kept: Kept) -> bool:
    """Remove a result and all that leads to it, unless a process is at work on one of its keys.

    False also if it was used since it was looked at.
    """
    keys = [entry.key for entry in kept.entries]
    with store.entries.held(keys) as alone:
        if not alone or _used_since(store, kept):
            return False
        # Without a manifest a blob is nothing; the other way round an entry would be broken.
        for entry in kept.entries:
            store.entries.drop(entry.key)
        with suppress(OSError):
            store.paths.blob(kept.sha256).unlink()
        for key in keys:
            with suppress(OSError):
                store.paths.lock(key).unlink()
    return True


def _used_since(store: Store, kept: Kept) -> bool:
    rows = dict(store.database.query("SELECT key, used_ns FROM entries"))
    return any(rows.get(entry.key, 0) > kept.used_ns for entry in kept.entries)
