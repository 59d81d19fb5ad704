"""Every result read again, and held against its name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lorapipe.errors import InputError
from lorapipe.store.digest import hash_file
from lorapipe.store.eviction import Kept, kept_results
from lorapipe.store.store import Store

__all__ = ["Verified", "verify"]


@dataclass(frozen=True, slots=True)
class Verified:
    """How many results were right and their bytes, and those that were ``damaged``."""

    sound: int
    size: int
    damaged: tuple[Kept, ...]


def verify(store: Store, progress: Callable[[Path, int, int], None]) -> Verified:
    """Hash every blob whatever the memo knows, and drop those that are not what they are called.

    The memo would not see a disk that gives back other bytes than it was given. ``progress`` is
    told path, bytes read and size. A result that is gone meanwhile counts for nothing.
    """
    damaged = []
    sound = size = 0
    for kept in kept_results(store):
        path = store.paths.blob(kept.sha256)
        try:
            hashed = hash_file(path, lambda done, total, path=path: progress(path, done, total))  # type: ignore[misc]  # mypy does not infer a lambda's default
        except InputError as error:
            if error.code == "input-missing":
                continue
            found = None
        else:
            found = hashed.sha256
        if found == kept.sha256:
            store.memo.remember(hashed.state, hashed.sha256, hashed.ended_ns, path)
            sound, size = sound + 1, size + kept.size
            continue
        damaged.append(kept)
        for entry in kept.entries:
            store.entries.drop(entry.key)
        with suppress(OSError):
            path.unlink()
    return Verified(sound, size, tuple(damaged))
