"""What the store holds of earlier builds, as the plan and the executor use it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING

from lorapipe.build.budget import store_budget
from lorapipe.build.digests import HashProgress, MemoDigests, Seen
from lorapipe.build.elsewhere import Elsewhere
from lorapipe.build.engines.halt import Halt
from lorapipe.build.locks.frozen import Beside, changed
from lorapipe.build.sharing import Sharing
from lorapipe.build.shelf import EntryVanished, Notes, Shelf
from lorapipe.errors import Halted, InputError
from lorapipe.formats.containers.output import OnBytes
from lorapipe.plan.files import InputFile, as_found
from lorapipe.plan.plan import Plan
from lorapipe.remote.state import Version
from lorapipe.remote.url import Location, Url
from lorapipe.store.atomic import Hook, Staged
from lorapipe.store.contents import folder_size
from lorapipe.store.eviction import evict, kept_results, surplus
from lorapipe.store.folders import StagedFolder
from lorapipe.store.journal import Making, Record
from lorapipe.store.part_files import StagedPart
from lorapipe.store.places import Places
from lorapipe.store.store import Known, Waiting, open_store
from lorapipe.store.temporaries import sweep, sweep_parts
from lorapipe.store.uploads import Sending, StagedObject, StagedObjects

if TYPE_CHECKING:
    from typing_extensions import Self

    from lorapipe.steps.save import SavedFile
    from lorapipe.weights.specs import FileSpec

__all__ = ["EntryVanished", "Records", "Upload"]

Upload = StagedObject | StagedObjects
"""An output on its way to a URL."""


def _quiet(path: Location, done: int, total: int) -> None:
    pass


def _no_hook(point: str) -> None:
    pass


class Records:
    """The memo, the journal and the results of the user's store; close it after use.

    ``looking`` promises that nothing is written: that is what a plan is made with.
    ``hook`` is called at each point where a crash would matter; tests crash there. ``root`` is
    where the store is to be, if not where the environment says. When ``halt`` asks to stop, whoever
    hashes, writes or waits here on another thread ends. With ``seen`` they are those of another machine's
    build: its inputs as it sees them; the size of the store is then not this one's to keep.
    """

    def __init__(
        self,
        *,
        looking: bool,
        progress: HashProgress = _quiet,
        hook: Hook = _no_hook,
        root: Path | Places | None = None,
        halt: Halt | None = None,
        seen: Mapping[Path | Version, Seen] | None = None,
    ) -> None:
        self.halt = halt or Halt()
        self._store = open_store(root, looking=looking, hook=self.halt.after(hook), waiting=self.halt.go_on)
        self.shelf = Shelf(self._store)
        self.sharing = Sharing(self._store, at_once=seen is not None)
        self._beside: Beside | None = None
        self._budget = None if looking else store_budget(os.environ, self._store.paths.root)
        self.digests = MemoDigests(
            self._store.memo, self._store.remote_memo, self.halt.after(progress), seen or {}
        )
        self.elsewhere = Elsewhere(self.digests, self.halt.go_on)
        self._guest = seen is not None

    @contextmanager
    def hashing(self, plan: Plan) -> Iterator[Beside]:
        """Hash on a thread, while the context lasts, what a plan takes at the word of lock or pin."""
        self._beside = Beside(plan, self._store.memo.hash, self.digests.read, self.halt)
        try:
            yield self._beside
        finally:
            self._beside.close()
            self._beside = None

    def hold(self, source: InputFile) -> None:
        """See that an input is what it was when it was hashed; read anew only if its state is another.

        What was read from a file that changed would be kept under the old file's key, for
        good. Waits for one that is being hashed. Raises :class:`~lorapipe.errors.InputError`
        ``input-changed``.
        """
        if self._beside is not None:
            self._beside.wait(source)
        if source.states and source.etag is not None:
            if not as_found(source):
                raise changed(source.path)
        elif source.sha256 is not None and source.digest(self.digests.hash) != source.sha256:
            raise changed(source.path)

    @property
    def scratch(self) -> Path:
        """A folder for files that do not outlive the build, on the store's disk."""
        return self._store.paths.temp

    @property
    def root(self) -> Path:
        """The store's folder."""
        return self._store.paths.root

    def settle(self) -> None:
        """Remember the digests of what was written a while ago, so that other processes need not hash it."""
        self._store.memo.settle(waiting=False)

    def grew(self) -> None:
        """Others have put results into the store in this build's name."""
        self.shelf.grown = True

    def probe(self) -> None:
        """Raise :class:`~lorapipe.errors.BuildError` now if the store cannot be written."""
        self._store.database.prepare()

    def stored(self, key: str) -> bool:
        """Whether the store has a result with this key; its blob is verified when it is read.

        What another machine made for this one's build is in the store that they share.
        """
        here = self._store.entries.peek(key) is not None
        return here or (self._guest and bool(self.sharing.look([key])))

    def notes(self, key: str) -> Notes:
        """What was noted of the result with this key, if the store has it; reads no result."""
        entry = self._store.entries.peek(key)
        return {} if entry is None else entry.notes

    def built(self, path: Location) -> tuple[tuple[str, str], ...]:
        """(sha256, key) of what lorapipe put at ``path``, the latest first."""
        return tuple((record.sha256, record.key) for record in self._store.journal.last(path))

    def history(self, path: Location) -> tuple[Record, ...]:
        """All that the journal has of ``path``, the latest first."""
        return self._store.journal.last(path)

    def entry_lock(
        self, key: str, waiting: Callable[[], None] = lambda: None
    ) -> AbstractContextManager[None]:
        """Held while a result or an output is built, so that another process waits and then finds it.

        ``waiting`` is called again and again while another process, or thread, holds it.
        """
        tries = 0

        def checkpoint() -> None:
            nonlocal tries
            tries += 1
            if tries > 1:
                waiting()

        return self._store.entries.lock(key, checkpoint=checkpoint)

    def make_room(self, path: Location, key: str) -> None:
        """Remove what killed builds left beside an output, but for what one of the same key finished."""
        if isinstance(path, Url):
            return  # it is not seen, and goes by the store's own rules
        sweep(path.parent)
        sweep_parts(path, key)

    def finished(self, path: Location, key: str) -> Mapping[str, int]:
        """Sizes of the files of an output folder that an interrupted build finished, by name."""
        if isinstance(path, Url):
            return {}
        try:
            return self._store.finished(path, key)
        except OSError:  # another build is at work on them
            return {}

    def stage(
        self,
        path: Path,
        spec: FileSpec,
        key: str | None = None,
        *,
        known: Known = MappingProxyType({}),
        waiting: Waiting | None = None,
    ) -> Staged | StagedFolder:
        """A temporary file or folder beside ``path``; raises ``disk-full`` when its bytes do not fit.

        What killed builds left in that folder goes first: it may be what fills the disk. But
        a folder with a ``key`` goes on with what one of the same key finished, and with files that are
        ``known`` from other processes; with ``waiting`` these are waited for.
        """
        sweep(path.parent)
        if not spec.files:
            return self._store.stage(path, needed=spec.nbytes)
        told = self.digests.progress
        return self._store.stage_folder(
            path, needed=spec.nbytes, key=key, progress=told, known=known, waiting=waiting
        )

    def stage_upload(self, url: Url, spec: FileSpec, *, sent: OnBytes, force: bool) -> Upload:
        """A file or folder on its way to a URL, of which ``sent`` is told what has come there.

        With ``force`` it replaces whatever is there by then. Raises :class:`~lorapipe.errors.BuildError`
        as :class:`~lorapipe.store.uploads.StagedObject` does.
        """
        sending = Sending(self.halt.go_on, sent, force)
        return self._store.stage_upload(url, sending, needed=None if spec.files else spec.nbytes)

    def stage_part(self, path: Path, name: str, key: str, waiting: Waiting) -> StagedPart:
        """One file of a folder, for which :meth:`stage` finds it: see :mod:`lorapipe.store.part_files`."""
        sweep(path.parent)
        progress = self.digests.progress
        return self._store.stage_part(path, name, key, waiting=waiting, progress=progress)

    def there(self, path: Location) -> bool:
        """Whether an output is there."""
        return self.elsewhere.there(path) is not None if isinstance(path, Url) else path.exists()

    def size(self, path: Location) -> int | None:
        """Bytes of an output that is there."""
        if isinstance(path, Url):
            found = self.elsewhere.there(path)
            return None if found is None else found.size
        with suppress(OSError):
            return folder_size(path) if path.is_dir() else path.stat().st_size
        return None

    def etag(self, path: Location) -> str | None:
        """What the server of an output elsewhere calls its content; of one here ``None``."""
        found = self.elsewhere.there(path) if isinstance(path, Url) else None
        return None if found is None else found.etag

    def digest(self, path: Location, *, read: bool) -> str | None:
        """The digest of an output that is there; ``None`` if it is not known and not to be ``read``."""
        if isinstance(path, Url):
            return self.elsewhere.hash(path) if read else self.elsewhere.known(path)
        return self.digests.hash(path) if read else self.digests.known(path)

    def present(self, path: Location) -> str | None:
        """The digest of what is at an output's path now; ``None`` if nothing is there."""
        if isinstance(path, Url):
            self.elsewhere.look(path)
            return self.elsewhere.hash(path)
        try:
            return self.digests.hash(path) if path.exists() else None
        except InputError:
            if path.exists():
                raise
            return None  # another build is about to give the name to its output

    def in_place(self, path: Location, key: str, making: Making) -> tuple[str, int] | None:
        """Digest and size in bytes of an output that need not be written.

        Another process has built it meanwhile, or it was made of results that came out as before.
        """
        records = [
            record
            for record in self._store.journal.last(path)
            if record.key == key or record.making.content == making.content
        ]
        present = self.present(path) if records else None
        if present is None or present not in {record.sha256 for record in records}:
            return None
        self.adopt(path, present, key, lambda: making)
        return present, self.size(path) or 0

    def adopt(self, path: Location, sha256: str, key: str, making: Callable[[], Making]) -> None:
        """Enter a file that is in place already, unless the journal has it."""
        if (sha256, key) not in self.built(path):
            self._store.journal.record(path, sha256, key, making=making())

    def publish(
        self, staged: Staged | StagedFolder | Upload, saved: SavedFile, key: str, making: Making
    ) -> None:
        """Enter the file or folder in the journal, then give it its name.

        In this order a crash in between leaves an old output that the journal still
        knows, or a new one that it knows already.
        """
        # What is elsewhere, and not known, is not fetched to learn what goes.
        url = staged.path if isinstance(staged.path, Url) else None
        present = self.present(staged.path) if url is None else self.elsewhere.known(url)
        if isinstance(staged, StagedObject | StagedObjects):
            files = saved.files or {"": saved.sha256}
            states = self._store.publish_upload(
                staged, saved.sha256, files, key, replacing=present, making=making
            )
            self.elsewhere.put(staged.path, states)
        elif isinstance(staged, StagedFolder):
            self._store.publish_folder(staged, saved.files, key, replacing=present, making=making)
        else:
            self._store.publish(staged, saved.sha256, key, replacing=present, making=making)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.sharing.leave(kind)
            if kind is None and (self.shelf.grown or self.sharing.fetched) and not self._guest:
                self._shrink()
        finally:
            # Where another process is at the database, what would be remembered is hashed anew.
            with suppress(Halted):
                self._store.__exit__(kind, error, trace)

    def _shrink(self) -> None:
        """Let results go that are beyond the store's size, but for those that this build used."""
        store = self._store
        for kept in surplus(kept_results(store), most=self._budget, spare=store.entries.in_use):
            evict(store, kept)
