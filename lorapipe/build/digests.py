"""sha256 of files and of whole folders, as the memo has them or as they are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lorapipe.errors import InputError
from lorapipe.remote.hashing import sha256_of
from lorapipe.remote.state import Version, state
from lorapipe.remote.url import Location, Url
from lorapipe.store.contents import whole_digest
from lorapipe.store.digest import FileState, Progress
from lorapipe.store.memo import Memo
from lorapipe.store.remote_memo import RemoteMemo

__all__ = ["HashProgress", "MemoDigests", "Seen"]

HashProgress = Callable[[Location, int, int], None]
"""Told the path or URL, the bytes read, and the size, while a file is hashed."""

_SWAPPED = 5
"""Times that a folder is read while other builds give its name to theirs."""
_MOMENT_S = 0.01


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as another machine sees it: its bytes, when it was written last (ns), its sha256."""

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, file: Path | Version, sha256: str) -> Seen:
        """A file of this ``sha256`` as it is seen from here. Raises ``OSError``."""
        if isinstance(file, Version):
            return cls(file.state.size, 0, sha256)
        state = FileState.of(file)
        return cls(state.size, state.mtime_ns, sha256)


@dataclass(frozen=True, slots=True)
class MemoDigests:
    """The digests of a store's memos; ``progress`` is told of what is read.

    A file that looks as it was ``seen`` by another machine is taken at that machine's word. Of files
    ``elsewhere`` what their servers say and the memo knows; a URL is asked for its state first.
    """

    memo: Memo
    elsewhere: RemoteMemo
    progress: HashProgress
    seen: Mapping[Path | Version, Seen] = field(default_factory=dict)

    def known(self, file: Location | Version) -> str | None:
        if isinstance(file, (Url, Version)):
            return self._known_elsewhere(_version(file))
        return _digest(file, lambda path: self.memo.lookup(path) or self._told(path))

    def hash(self, file: Location | Version) -> str:
        if isinstance(file, (Url, Version)):
            version = _version(file)
            return self._known_elsewhere(version) or self.read(version)
        found = _digest(file, self._hash)
        assert found is not None, "each file of a folder has a digest once it is read"
        return found

    def read(self, version: Version, go_on: Progress | None = None) -> str:
        """Read a file elsewhere, whole, for its digest, and remember it. What ``go_on`` raises ends that."""

        def told(done: int, total: int) -> None:
            self.progress(version.url, done, total)
            if go_on is not None:
                go_on(done, total)

        found = sha256_of(version, told)
        self.elsewhere.remember(version.url, version.state, found)
        return found

    def _known_elsewhere(self, version: Version) -> str | None:
        seen = self.seen.get(version)
        return seen.sha256 if seen is not None else self.elsewhere.lookup(version.url, version.state)

    def _hash(self, path: Path) -> str:
        told = self._told(path)
        if told is not None:
            return told
        return self.memo.hash(path, lambda done, total: self.progress(path, done, total)).sha256

    def _told(self, path: Path) -> str | None:
        """What another machine says of a file, if it looks the same from here.

        Raises :class:`~lorapipe.errors.InputError` ``input-differs`` where it cannot be the same.
        """
        seen = self.seen.get(path)
        if seen is None:
            return None
        try:
            found = FileState.of(path)
        except OSError:  # a file that is gone is for the reader to name
            return None
        if found.size != seen.size:
            raise InputError(
                "input-differs",
                f"'{path}' has {found.size:,} bytes here, {seen.size:,} where the build was started",
                hint="share the inputs by one file system, or bring them up to date",
            )
        return seen.sha256 if found.mtime_ns == seen.mtime_ns else None


def _version(file: Url | Version) -> Version:
    return file if isinstance(file, Version) else Version(file, state(file))


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
