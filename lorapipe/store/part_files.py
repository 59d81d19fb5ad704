"""One file of a folder to be, made by a process of its own while others make the others.

    stage_part  --finish-->  whole, in the part of the folder  --stage_folder, publish-->  the folder

A file is written beside the target under a hidden name, as every file is, and renamed into the part
when it is whole and on the disk; then it is entered in the books. So a part that others share holds
whole files only, whoever dies when, and two processes that make the same file put the same bytes in
its place. Who makes one shares the part's lock meanwhile; who writes in the part
(:class:`~.folders.StagedFolder`) or sweeps it away needs it alone. Where a lock is not seen, as on NFS
from another machine, a build may lose its part and end with an error; no folder gets its name with
anything in it but whole files.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from lorapipe.errors import BuildError
from lorapipe.store.atomic import Hook, Staged, no_hook, stage
from lorapipe.store.digest import Hashed
from lorapipe.store.disk import Disk, make_folders, remove_folders
from lorapipe.store.folders import Resumption
from lorapipe.store.temporaries import claim_part, release_part

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["StagedPart"]


class StagedPart:
    """The file ``name`` on its way into the part of the folder at ``path``.

    ``finished`` is its digest if it is there already; then nothing need be written. Otherwise it is
    opened by :meth:`create` and kept by :meth:`finish`. As a context manager it lets go of the part, and
    removes what was not finished. Its points are those of a staged file, labelled ``part``, and ``kept``:
    it is in the books. Each method raises :class:`~lorapipe.errors.BuildError` ``disk-full``,
    ``output-unwritable`` or ``part-gone``.
    """

    def __init__(self, path: Path, name: str, resumption: Resumption, *, hook: Hook = no_hook) -> None:
        self.path = path
        self.name = name
        self._resumption = resumption
        self._hook = hook
        self._staged: Staged | None = None
        self._disk = Disk(path, None)
        with self._disk.faults():
            self._made = make_folders(path.parent)
            try:
                self._part, self._held = self._claim()
            except BaseException:
                remove_folders(self._made)
                raise
        try:
            self._remove_links()
            self.finished = self._found()
        except BaseException:
            self.close()
            raise

    def create(self, name: str, size: int | None = None) -> BinaryIO:
        """Open the file; ``size`` is about what it will have, in bytes. ``name`` is that of the part."""
        assert name == self.name
        assert self._staged is None
        self._staged = stage(self.path, needed=size, hook=self._hook, label="part")
        return self._staged.file

    def finish(self, sha256: str) -> None:
        """Bring the file to the disk, into the part, into the books: from now on it is found."""
        assert self._staged is not None
        staged, place = self._staged, self._part / self.name
        staged.seal()
        self._check_there()
        state = staged.publish(to=place)
        if state is None:
            raise self._gone()
        self._resumption.record(place, state, sha256)
        self._hook("part:kept")

    def close(self) -> None:
        """Let go of the part; what was not finished is removed."""
        try:
            if self._staged is not None:
                self._staged.discard()
        finally:
            held, self._held = self._held, -1
            if held >= 0:
                release_part(self._part, held)
            remove_folders(self._made)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _claim(self) -> tuple[Path, int]:
        claimed = claim_part(self.path, self._resumption.key, shared=True, waiting=self._resumption.waiting)
        if claimed is None:
            raise self._gone()
        return claimed

    def _remove_links(self) -> None:
        """Remove links on the way to the file: no process of ours put them there."""
        with self._disk.faults():
            for above in (self._part / parent for parent in Path(self.name).parents[:-1]):
                if above.is_symlink():
                    above.unlink()

    def _found(self) -> Hashed | None:
        place = self._part / self.name
        try:
            regular = stat.S_ISREG(place.lstat().st_mode)
        except OSError:
            return None
        with self._disk.faults():
            return self._resumption.whole(place) if regular else None

    def _check_there(self) -> None:
        """See that the part was not swept away, or given its name, from where our lock is not seen."""
        with self._disk.faults():
            there = self._part.exists() and os.path.samestat(os.fstat(self._held), self._part.stat())
        if not there:
            raise self._gone()

    def _gone(self) -> BuildError:
        return BuildError(
            "part-gone",
            f"another build took what was finished of {self.path}",
            hint="run again when no other build writes to it",
        )
