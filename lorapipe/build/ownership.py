"""Which files and folders at an output's path may be replaced, and which are somebody else's.

One is ours if the journal or the lock holds its path with its present digest; a folder in which
anything was added, changed or removed is not. One
that is not is left alone, unless it turns out to be what the build makes anyway: then
it is adopted, so that a lost lock or another machine's store costs a build and no more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lorapipe.build.records import Records, Upload
from lorapipe.errors import BuildError, LockError, LorapipeError
from lorapipe.formats.files import open_tensors
from lorapipe.plan.make import Locked
from lorapipe.remote.url import Location, Url
from lorapipe.store.atomic import Staged
from lorapipe.store.contents import walk
from lorapipe.store.folders import StagedFolder
from lorapipe.store.journal import Making
from lorapipe.weights.specs import FileSpec

if TYPE_CHECKING:
    from lorapipe.steps.save import SavedFile

__all__ = ["Ownership"]


@dataclass(frozen=True, slots=True)
class Ownership:
    """What this build may replace; ``force`` is everything.

    ``promised`` are the digests that outputs must come out with, since the lock says so.
    """

    records: Records
    locked: Locked
    force: bool = False
    promised: Mapping[Location, str] = field(default_factory=dict)

    def check_promised(self, paths: Iterable[Location | None]) -> None:
        """See that outputs which are up to date are those of the lock.

        Raises :class:`~lorapipe.errors.LockError` ``not-as-locked``.
        """
        for path in paths:
            if path is not None and path in self.promised:
                self._keep_promise(path, self.records.digest(path, read=True) or "")

    def ours(self, path: Location) -> str | None:
        """The digest of what is at ``path``, if lorapipe put it there; what is nobody's is ``None``, too."""
        known = self._known(path) if self.records.there(path) else set[str]()
        present = self.records.present(path) if known else None
        return present if present in known else None

    def check(self, path: Location, spec: FileSpec) -> None:
        """Stop before any work when an output would replace a file that is not ours.

        A file of just the tensors that the build will write may be the same file; it
        is compared when they are there. Raises :class:`~lorapipe.errors.BuildError`
        ``foreign-file``.
        """
        if not self._replaceable(path) and not self._has_tensors(path, spec):
            raise self._foreign(path)

    def publish(
        self, staged: Staged | StagedFolder | Upload, saved: SavedFile, key: str, making: Making
    ) -> None:
        """Give a finished file or folder its name, or adopt the one there if it is the same.

        Raises :class:`~lorapipe.errors.BuildError` ``foreign-file`` when another file is
        there that is not ours: it may have come while the build was at work; and
        :class:`~lorapipe.errors.LockError` ``not-as-locked``.
        """
        path = staged.path
        self._keep_promise(path, saved.sha256)
        if self._same(path, saved):
            self.records.adopt(path, saved.sha256, key, lambda: making)
        elif self._replaceable(path):
            self.records.publish(staged, saved, key, making)
        else:
            raise self._foreign(path)

    def _same(self, path: Location, saved: SavedFile) -> bool:
        """Whether what is at a path now is what was made; what is elsewhere is fetched only if it may be."""
        if isinstance(path, Url):
            found = self.records.elsewhere.look(path)
            if found is None or found.size != saved.size:
                return False
        return self.records.present(path) == saved.sha256

    def _keep_promise(self, path: Location, sha256: str) -> None:
        promised = self.promised.get(path, sha256)
        if sha256 != promised:
            raise LockError(
                "not-as-locked",
                f"'{path.name}' came out with sha256 {sha256[:12]}..., the lock has {promised[:12]}...",
                hint="another processor may round the last bits otherwise: --any-profile allows it",
            )

    def _replaceable(self, path: Location) -> bool:
        if self.force or not (self.records.there(path) if isinstance(path, Url) else os.path.lexists(path)):
            return True
        known = self._known(path)
        # A stranger's folder is not read whole to learn that it is his.
        if bool(known) and self.records.present(path) in known:
            return True
        return isinstance(path, Url) and path.is_folder and self._begun(path)

    def _begun(self, folder: Url) -> bool:
        """Whether all that is in a folder elsewhere is of a build that died while it appeared."""
        files = self.records.elsewhere.files(folder)
        return all(
            self.records.digests.known(file) in {sha256 for sha256, _ in self.records.built(file.url)}
            for file in files
        )

    def _known(self, path: Location) -> set[str]:
        """The digests under which ``path`` is ours."""
        known = {sha256 for sha256, _ in self.records.built(path)}
        if path in self.locked.outputs:
            known.add(self.locked.outputs[path][0])
        return known

    def _has_tensors(self, path: Location, spec: FileSpec) -> bool:
        """Whether a file or folder may hold just what ``spec`` foretells, by its headers."""
        try:
            if spec.files and not self._has_files(path, spec):
                return False
            with open_tensors(path) as source:
                return spec.admits(source.tensors)
        except (LorapipeError, OSError):
            return False

    def _has_files(self, folder: Location, spec: FileSpec) -> bool:
        """Whether a folder holds the files of ``spec`` and no more, those besides weights in their sizes."""
        sizes = self.records.elsewhere.sizes(folder) if isinstance(folder, Url) else _sizes(folder)
        if sizes.keys() != {*spec.files, *spec.others}:
            return False
        return all(size in (0, sizes[name]) for name, size in spec.others.items())

    def _foreign(self, path: Location) -> BuildError:
        what = "was changed since lorapipe wrote it" if self._known(path) else "was not written by lorapipe"
        return BuildError(
            "foreign-file",
            f"'{path.name}' is there and {what}",
            hint="move it away, write to another name, or run with --force to replace it",
            option="to",
        )


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file in a folder, by relative name. Raises ``OSError``."""
    return {name: (folder / name).stat().st_size for name, _ in walk(folder)}
