"""A store opened: what a build uses of it, in one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from lorapipe.store.atomic import Hook, Staged, no_hook, stage
from lorapipe.store.contents import listing_digest
from lorapipe.store.database import Database
from lorapipe.store.digest import FileState
from lorapipe.store.entries import Entries
from lorapipe.store.folders import StagedFolder, stage_folder
from lorapipe.store.journal import Journal
from lorapipe.store.memo import Memo
from lorapipe.store.paths import StorePaths, store_root

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Store", "open_store"]


@dataclass(frozen=True, slots=True)
class Store:
    """Made by :func:`open_store`. As a context manager it closes itself."""

    paths: StorePaths
    database: Database
    memo: Memo
    journal: Journal
    entries: Entries
    hook: Hook

    def stage(self, path: Path, *, needed: int | None = None) -> Staged:
        """An output on its way to ``path``; see :func:`~lorapipe.store.atomic.stage`.

        A store that cannot take the journal's record is found out now, before the work.
        """
        self.database.prepare()
        return stage(path, needed=needed, hook=self.hook)

    def publish(
        self, staged: Staged, sha256: str, key: str, *, replacing: str | None = None
    ) -> FileState | None:
        """Let a staged output appear: on the disk, then in the journal, then under its name.

        ``replacing`` is the digest of the file there now, if it is ours. The digest is
        memoised when the store is closed. Raises :class:`~lorapipe.errors.BuildError`.
        """
        staged.seal()
        self._record(staged.path, sha256, key, replacing)
        state = staged.publish()
        self.memo.later(staged.path, state, sha256)
        return state

    def stage_folder(self, path: Path, *, needed: int | None = None) -> StagedFolder:
        """An output folder on its way to ``path``; otherwise as :meth:`stage`."""
        self.database.prepare()
        return stage_folder(path, needed=needed, hook=self.hook, label="folder")

    def publish_folder(
        self, staged: StagedFolder, files: Mapping[str, str], key: str, *, replacing: str | None = None
    ) -> None:
        """Let a staged folder appear; ``files`` are the sha256 of all that is in it, by relative name.

        The journal knows the folder by :func:`~lorapipe.store.contents.listing_digest`, the memo
        each file. Otherwise as :meth:`publish`.
        """
        staged.seal()
        self._record(staged.path, listing_digest(files), key, replacing)
        for name, state in staged.publish().items():
            self.memo.later(staged.path / name, state, files[name])

    def _record(self, path: Path, sha256: str, key: str, replacing: str | None) -> None:
        self.hook("journal:record")
        self.journal.record(path, sha256, key, replacing=replacing)
        self.hook("journal:recorded")

    def close(self) -> None:
        """Memoise what was written, which waits out the file system's clock, and let go."""
        self.memo.settle()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(root: Path | None = None, *, looking: bool = False, hook: Hook = no_hook) -> Store:
    """The store at ``root``, else where :func:`~lorapipe.store.paths.store_root` says.

    Touches no file: the first write creates the store, and one opened for ``looking`` writes
    nothing at all. ``hook`` is called at each point where a crash would matter.
    """
    paths = StorePaths(store_root() if root is None else root)
    database = Database(paths, looking=looking)
    memo = Memo(database)
    return Store(paths, database, memo, Journal(database), Entries(paths, database, memo, hook=hook), hook)
