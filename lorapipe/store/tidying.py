"""What lies about in a store and serves nobody: leftovers of killed builds, rows of files that are gone."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lorapipe.store.digest import is_sha256
from lorapipe.store.eviction import blobs
from lorapipe.store.remote_memo import KEPT_NS
from lorapipe.store.store import Store
from lorapipe.store.temporaries import sweep

__all__ = ["Leftovers", "tidy"]

_SETTLED_NS = 3600 * 10**9
"""A blob gets its manifest within moments; one without any for an hour gets none."""

_REMEMBERED_NS = 90 * 86400 * 10**9
"""For how long the journal knows outputs that are not there: disks are unplugged, files are put back."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """How many there were of each sort.

    ``temporaries`` are files of killed builds, ``orphans`` blobs that no key leads to, of
    ``size`` bytes, ``broken`` keys that lead nowhere, ``locks`` lock files of no result,
    ``outputs`` and ``digests`` what journal and memo know of files that are gone.
    """

    temporaries: int
    orphans: int
    size: int
    broken: int
    locks: int
    outputs: int
    digests: int


def tidy(store: Store, *, only_count: bool = False, now_ns: int | None = None) -> Leftovers:
    """Remove all that, and count it; ``only_count`` removes nothing (and sees no temporaries)."""
    now = time.time_ns() if now_ns is None else now_ns
    swept = () if only_count else sweep(store.paths.temp)
    broken = _broken(store)
    orphans = _orphans(store, now)
    locks = _idle_locks(store)
    size = sum(_size(path) for path in orphans)
    if not only_count:
        for key in broken:
            store.entries.drop(key)
        for path in (*orphans, *store.paths.root.glob("index.sqlite.damaged*")):
            with suppress(OSError):
                path.unlink()
        for key in locks:
            with store.entries.held([key]) as alone, suppress(OSError):
                if alone:
                    store.paths.lock(key).unlink()
    return Leftovers(
        temporaries=len(swept),
        orphans=len(orphans),
        size=size,
        broken=len(broken),
        locks=len(locks),
        outputs=store.journal.forget_gone(now - _REMEMBERED_NS, only_count=only_count),
        digests=store.memo.forget_stale(only_count=only_count)
        + store.remote_memo.forget(now - KEPT_NS, only_count=only_count),
    )


def _orphans(store: Store, now: int) -> list[Path]:
    named = {entry.sha256 for entry in store.entries.all()}
    found = []
    for path in blobs(store):
        with suppress(OSError):
            if path.name not in named and now - path.stat().st_ctime_ns > _SETTLED_NS:
                found.append(path)
    return found


def _broken(store: Store) -> list[str]:
    """Keys whose manifest is none, or leads to a blob that is not there."""
    keys = [path.stem for path in store.paths.manifests.glob("??/*.json") if is_sha256(path.stem)]
    return [key for key in keys if store.entries.peek(key) is None]


def _idle_locks(store: Store) -> list[str]:
    keys = [path.stem for path in store.paths.locks.glob("*.lock") if is_sha256(path.stem)]
    return [key for key in keys if not store.paths.manifest(key).exists()]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
