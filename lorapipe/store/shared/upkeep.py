"""What is in a shared store, and letting go of what is old.

When a result was used last nobody notes there: its age is that of the latest manifest that leads to it.
What is younger than a day always stays: it may be on its way, its blob first, or just be looked at.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from lorapipe.store.eviction import Kept, surplus
from lorapipe.store.manifest import Entry
from lorapipe.store.shared.bucket import Bucket, Item
from lorapipe.store.shared.catalog import Catalog
from lorapipe.store.shared.layout import (
    BLOBS,
    MANIFESTS,
    TOKENS,
    is_ours,
    key_of,
    manifest_name,
    sha256_of,
)

__all__ = ["Holdings", "SharedFreed", "clear", "holdings"]

_SETTLED_NS = 86400 * 10**9


@dataclass(frozen=True, slots=True)
class Holdings:
    """How many results a shared store has, and their bytes."""

    results: int
    size: int


@dataclass(frozen=True, slots=True)
class SharedFreed:
    """Results that went, or would go, and ``leftovers``: objects that serve nobody, of ``spare`` bytes.

    ``left`` are the bytes of the results that stay.
    """

    results: tuple[Kept, ...]
    leftovers: int
    spare: int
    left: int

    @property
    def size(self) -> int:
        """Bytes freed."""
        return sum(kept.size for kept in self.results) + self.spare


def holdings(bucket: Bucket) -> Holdings:
    """Count what is there, by a listing; raises :class:`~lorapipe.store.shared.bucket.Trouble`."""
    sizes = [item.size for item in bucket.listing(BLOBS) if sha256_of(item.name) is not None]
    return Holdings(len(sizes), sum(sizes))


def clear(
    bucket: Bucket,
    catalog: Catalog,
    *,
    most: int | None = None,
    older_s: float | None = None,
    dry: bool = False,
    now_ns: int | None = None,
) -> SharedFreed:
    """Remove results older than ``older_s``, and the oldest beyond ``most`` bytes; with ``dry`` only tell.

    Manifests go before the blobs that they lead to. Raises
    :class:`~lorapipe.store.shared.bucket.Trouble`.
    """
    if not catalog.present():
        return SharedFreed((), 0, 0, 0)
    now = time.time_ns() if now_ns is None else now_ns
    settled = now - _SETTLED_NS
    listed = [*bucket.listing(MANIFESTS), *bucket.listing(BLOBS), *bucket.listing(TOKENS)]
    manifests = {key: item for item in listed if (key := key_of(item.name)) is not None}
    blobs = {sha: item for item in listed if (sha := sha256_of(item.name)) is not None}
    kept = tuple(_kept(manifests, blobs, catalog))
    young = {each.sha256 for each in kept if each.used_ns > settled}
    since = 0 if older_s is None else now - int(older_s * 1e9)
    going = surplus(kept, most=most, unused_since=since, spare=young)
    used = {manifest_name(entry.key) for each in kept for entry in each.entries}
    used |= {blobs[each.sha256].name for each in kept}
    ours = [item for item in listed if is_ours(item.name)]
    spare = [item for item in ours if item.written_ns <= settled and item.name not in used]
    if not dry:
        bucket.remove(manifest_name(entry.key) for each in going for entry in each.entries)
        bucket.remove(blobs[each.sha256].name for each in going)
        bucket.remove(item.name for item in spare)
    left = sum(each.size for each in kept) - sum(each.size for each in going)
    return SharedFreed(going, len(spare), sum(item.size for item in spare), left)


def _kept(manifests: dict[str, Item], blobs: dict[str, Item], catalog: Catalog) -> Iterator[Kept]:
    leading: defaultdict[str, list[Entry]] = defaultdict(list)
    for _, found in catalog.entries(list(manifests)):
        if isinstance(found, Entry) and found.sha256 in blobs:
            leading[found.sha256].append(found)
    for sha256, entries in leading.items():
        ordered = tuple(sorted(entries, key=lambda entry: (entry.of is not None, entry.key)))
        written = max(item.written_ns for item in (blobs[sha256], *(manifests[e.key] for e in ordered)))
        yield Kept(sha256, blobs[sha256].size, written, False, ordered)
