"""A folder of files, here or elsewhere, as a survey of it needs it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from lorapipe.errors import InputError
from lorapipe.formats.folders.members import inside, is_file, visible
from lorapipe.remote.listing import Listing, listing, states
from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Location, Url

__all__ = ["Folder", "LocalFolder", "Member", "RemoteFolder", "member", "open_folder"]


_LARGE = 16 << 20
"""Bytes from which reading a file takes longer than asking for its checksum."""


class Member(NamedTuple):
    """Something that lies in a folder."""

    name: str
    is_folder: bool
    is_link: bool = False


class Folder(Protocol):
    """A folder; names are relative to it, parted by slashes. What is hidden is not listed."""

    @property
    def path(self) -> Location: ...

    def listed(self, below: str = "") -> tuple[Member, ...]:
        """What lies in it, or in its folder ``below``, in the order of names."""
        ...

    def held(self, names: Iterable[str]) -> Collection[str]:
        """Those of some files that are there."""
        ...

    def file(self, name: str) -> Location:
        """A file in it; raises ``folder-link`` for a link that leads out of it, or to nothing."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file."""
        ...

    def identity(self, name: str) -> object:
        """Equal for two names of one file."""
        ...

    def states(self, names: Iterable[str]) -> Mapping[str, RemoteState]:
        """The states of files elsewhere; of a folder here none."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of this machine."""

    path: Path

    def listed(self, below: str = "") -> tuple[Member, ...]:
        folder = self.path / below
        try:
            return tuple(Member(e.name, (folder / e.name).is_dir(), e.is_symlink()) for e in visible(folder))
        except OSError as error:
            message = f"cannot be read: {error.strerror or error}"
            raise InputError("input-unreadable", message, where=str(folder)) from error

    def held(self, names: Iterable[str]) -> Collection[str]:
        return {name for name in names if is_file(self.path / name)}

    def file(self, name: str) -> Path:
        return inside(self.path, name)

    def size(self, name: str) -> int:
        return inside(self.path, name).stat().st_size

    def identity(self, name: str) -> object:
        status = (self.path / name).stat()
        return status.st_dev, status.st_ino

    def states(self, names: Iterable[str]) -> Mapping[str, RemoteState]:  # noqa: ARG002  # the folders' one signature
        return {}


class RemoteFolder:
    """A folder elsewhere, as it was listed. Where nothing is listed, files are asked for by name."""

    __slots__ = ("_asked", "_found", "path")

    def __init__(self, found: Listing) -> None:
        self.path: Url = found.url
        self._found = found
        self._asked: dict[str, RemoteState | None] = dict(found.files)

    def listed(self, below: str = "") -> tuple[Member, ...]:
        above = f"{below.rstrip('/')}/" if below else ""
        members: dict[str, Member] = {}
        for name in self._found.files:
            if name.startswith(above):
                inner, slash, _ = name[len(above) :].partition("/")
                members.setdefault(inner, Member(inner, bool(slash)))
        shown = (member for member in members.values() if not member.name.startswith("."))
        return tuple(sorted(shown, key=lambda member: os.fsencode(member.name)))

    def held(self, names: Iterable[str]) -> Collection[str]:
        return self.states(names).keys()

    def file(self, name: str) -> Location:
        return member(self.path, name)

    def size(self, name: str) -> int:
        found = self._state(name)
        if found is None:
            raise InputError(
                "remote-missing", f"has no '{name}'", hint="upload it whole", where=str(self.path)
            )
        return found.size

    def identity(self, name: str) -> object:
        return name

    def states(self, names: Iterable[str]) -> Mapping[str, RemoteState]:
        wanted = tuple(names)
        self._ask(wanted)
        self._ask_for_checksums(wanted)
        return {name: found for name in wanted if (found := self._asked[name]) is not None}

    def _ask(self, names: Iterable[str]) -> None:
        """Ask at the same time for the states of files that no listing has."""
        missing = [name for name in names if name not in self._asked]
        if self._found.known:
            self._asked.update(dict.fromkeys(missing))
            return
        found = states(self.path / name for name in missing)
        self._asked.update({name: found[self.path / name] for name in missing})

    def _ask_for_checksums(self, names: Iterable[str]) -> None:
        """S3 tells the sha256 that a file was uploaded with, but in no listing; large files only."""
        if self.path.scheme == "s3" and self._found.known:
            known = ((name, self._asked[name]) for name in names)
            large = [name for name, seen in known if seen is not None and seen.size >= _LARGE]
            found = states(self.path / name for name in large)
            self._asked.update({name: found[self.path / name] for name in large})

    def _state(self, name: str) -> RemoteState | None:
        self._ask([name])
        return self._asked[name]


def member(folder: Location, name: str) -> Location:
    """A file of a folder by its relative name, checked as :meth:`Folder.file` says."""
    if not isinstance(folder, Url):
        return inside(folder, name)
    if ".." in PurePosixPath(name).parts:
        raise InputError("folder-link", f"has no file '{name}'", hint="name one in it", where=str(folder))
    return folder / name


def open_folder(path: Location) -> Folder:
    """The folder at a path or URL; raises as :func:`~lorapipe.remote.listing.listing`."""
    return RemoteFolder(listing(path)) if isinstance(path, Url) else LocalFolder(path)
