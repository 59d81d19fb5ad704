"""sha256 of files and of whole folders, as the memo has them or as they are read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lorapipe.errors import InputError
from lorapipe.store.contents import whole_digest
from lorapipe.store.digest import FileState
from lorapipe.store.memo import Memo

__all__ = ["HashProgress", "MemoDigests"]

HashProgress = Callable[[Path, int, int], None]
"""Told the path, the bytes read, and the size, while a file is hashed."""

_SWAPPED = 5
"""Times that a folder is read while other builds give its name to theirs."""
_MOMENT_S = 0.01


@dataclass(frozen=True, slots=True)
class MemoDigests:
    """The digests of a store's memo; ``progress`` is told of what is read."""

    memo: Memo
    progress: HashProgress

    def known(self, path: Path) -> str | None:
        return _digest(path, self.memo.lookup)

    def hash(self, path: Path) -> str:
        found = _digest(path, self._hash)
        assert found is not None, "each file of a folder has a digest once it is read"
        return found

    def _hash(self, path: Path) -> str:
        return self.memo.hash(path, lambda done, total: self.progress(path, done, total)).sha256


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        return FileState.of(path).identity
    except OSError:
        return None


def _digest(path: Path, of: Callable[[Path], str | None]) -> str | None:
    """The sha256 of a file, or of all that lies in a folder, where ``of`` gives that of a file.

    A folder that another build replaces meanwhile is read anew.
    """
    if not path.is_dir():
        return of(path)
    for left in reversed(range(_SWAPPED)):
        before = _identity(path)
        try:
            found = _whole(path, of)
        except InputError:
            if not left or (before is not None and before == _identity(path)):
                raise
        else:
            if not left or before == _identity(path):
                return found
        time.sleep(_MOMENT_S)
    raise AssertionError("the last round returns or raises")


def _whole(path: Path, of: Callable[[Path], str | None]) -> str | None:
    try:
        return whole_digest(path, of)
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise InputError("input-unreadable", message, where=str(path)) from error
