"""The files and folders that a recipe reads: found and identified."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from enum import Enum
from pathlib import Path, PureWindowsPath
from typing import Protocol

from lorapipe.errors import InputError, RecipeError
from lorapipe.formats.folders.survey import is_folder
from lorapipe.formats.shelf import Shelf
from lorapipe.remote.listing import at_revision, is_fixed, states
from lorapipe.remote.state import RemoteState, Version, etag_of, state
from lorapipe.remote.url import Location, Url, is_url, parse_url
from lorapipe.store.contents import listed
from lorapipe.store.lockfile import LockedInput

__all__ = [
    "Certainty",
    "Digests",
    "Folders",
    "InputFile",
    "as_found",
    "check_name",
    "find_input",
    "identify",
    "pin_mismatch",
]


_LONGEST = 255
"""Bytes of a name between two slashes: the limit of the usual file systems."""

_LONGEST_PATH = 3_800
"""Bytes of a whole path: Linux' limit of 4,096, less the temporary names under which outputs are made."""

_DRIVE = re.compile(r"[A-Za-z]:")


class Certainty(Enum):
    """How the sha256 of an input is known."""

    CHECKED = "checked"
    STATED = "as its server has it"
    PINNED = "pinned, not checked"
    LOCKED = "locked, not checked"
    UNKNOWN = "not hashed yet"


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input as found: its absolute path or URL, size in bytes, sha256 as far as known.

    Of a folder ``parts`` are the files that count, relative to ``folder``, and the sha256 is that
    of their list (:func:`~lorapipe.store.contents.listing_digest`). Of what is elsewhere ``states``
    are those in which its files were found, by name in the folder, ``""`` where there is none.
    """

    path: Location
    size: int
    sha256: str | None
    certainty: Certainty
    folder: Location | None = None
    parts: tuple[str, ...] = ()
    states: Mapping[str, RemoteState] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path | Version, ...]:
        """The file, or those of the folder, as their digests are asked for."""
        return tuple(map(self._file, self.parts if self.folder is not None else ("",)))

    @property
    def etag(self) -> str | None:
        """Of what is elsewhere what changes when the bytes do: :func:`~lorapipe.remote.state.etag_of`."""
        return etag_of(self.states)

    @property
    def revision(self) -> str | None:
        """The commit, version or generation that was found, if what is elsewhere has one for all of it."""
        found = {state.revision for state in self.states.values()}
        return found.pop() if len(found) == 1 else None

    def digest(self, of: Callable[[Path | Version], str | None]) -> str | None:
        """The sha256, where ``of`` gives that of a file; ``None`` as soon as it does not know one."""
        if self.folder is None:
            return of(self._file(""))
        return listed(self.parts, lambda name: of(self._file(name)))

    def _file(self, name: str) -> Path | Version:
        if self.states:
            url = self.path if self.folder is None else self.folder / name
            assert isinstance(url, Url)
            return Version(url, self.states[name])
        path = self.path if self.folder is None else self.folder / name
        assert isinstance(path, Path)
        return path


@dataclass(frozen=True, slots=True)
class Folders:
    """Where relative names start: the recipe's folder, ``--models``, ``--output-root``."""

    recipe: Path
    models: tuple[Path, ...] = ()
    output_root: Location | None = None

    @property
    def outputs(self) -> Location:
        return self.output_root if self.output_root is not None else self.recipe


class Digests(Protocol):
    """sha256 by file: ``known`` asks the memo only, ``hash`` reads the file if it must.

    That of a folder is the digest of all that lies in it. A file elsewhere is asked for in the
    state in which it was found; a URL by itself in that which it is in now.
    """

    def known(self, file: Location | Version) -> str | None: ...

    def hash(self, file: Location | Version) -> str: ...


def find_input(name: str, pin: str | None, folders: Folders, digests: Digests) -> Location:
    """The file or folder that ``load`` names: beside the recipe, then in the model folders; or a URL.

    A pinned file that was renamed is found in the model folders by the digest that
    the memo has of it; nothing is hashed for that. So is one that a URL names, which then is not
    fetched. Raises :class:`~lorapipe.errors.InputError` (``input-missing``) and
    :class:`~lorapipe.errors.RecipeError` (``name-too-long``, ``http-without-pin``, and as
    :func:`~lorapipe.remote.url.parse_url` does).
    """
    if is_url(name):
        url = parse_url(name)
        _check_safe(url, pin)
        return _pinned(url.suffix, pin, folders, digests) or url
    tried = [folders.recipe / name, *(folder / name for folder in folders.models)]
    for path in tried:
        check_name(name, path, "load")
    for path in tried:
        if path.is_file() or path.is_dir():
            return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links and hide the name
    found = _pinned(Path(name).suffix, pin, folders, digests)
    if found is not None:
        return found
    raise InputError("input-missing", f"no file '{name}'", hint=_missing_hint(name, tried), option="load")


def _pinned(suffix: str, pin: str | None, folders: Folders, digests: Digests) -> Path | None:
    """A file of the model folders that is known to be the pinned one."""
    if pin is None or not suffix:
        return None
    known = (path for path in _siblings(folders.models, suffix) if digests.known(path) == pin.lower())
    found = next(known, None)
    return None if found is None else Path(os.path.abspath(found))  # noqa: PTH100  # as above


def _check_safe(url: Url, pin: str | None) -> None:
    """Refuse what anybody on the way could replace, unless a pin would show it."""
    if url.scheme == "http" and pin is None and not url.loopback:
        raise RecipeError(
            "http-without-pin",
            "what comes by http:// can be replaced on its way",
            hint="use https://, or pin it: `sha256: ...`",
            option="load",
        )


def check_name(name: str, path: Path, option: str) -> None:
    """Refuse a name that no file can have, before the system is asked for the ``path`` it makes."""
    longest = max(_size(part) for part in name.split("/"))
    if longest > _LONGEST:
        message, most = f"a name of {longest} bytes is longer than a file's can be", _LONGEST
    elif (whole := _size(str(path))) > _LONGEST_PATH:
        message, most = f"a path of {whole} bytes is longer than a file's can be", _LONGEST_PATH
    else:
        return
    raise RecipeError("name-too-long", message, hint=f"{most} bytes at most", option=option)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _siblings(folders: Iterable[Path], suffix: str) -> Iterable[Path]:
    for folder in folders:
        yield from sorted(p for p in folder.rglob(f"*{suffix}") if p.is_file())


def _missing_hint(name: str, tried: list[Path]) -> str:
    folder = tried[0].parent
    if os.sep == "/" and ("\\" in name or _DRIVE.match(name)):
        meant = PureWindowsPath(name)
        if meant.drive:
            return "a drive is one Windows machine's: name it from the recipe's folder, or from --models DIR"
        return f"folders are parted by /: '{meant.as_posix()}'"
    if folder.is_dir():
        # Endings are so long and alike that with them any two names would seem near.
        stems = {path.stem: path.name for path in sorted(folder.iterdir())}
        near = get_close_matches(Path(name).stem, stems, n=1)
        if near:
            return f"did you mean '{Path(name).with_name(stems[near[0]]).as_posix()}'?"
    looked = ", ".join(str(path.parent) for path in tried)
    return f"looked in {looked}; --models DIR adds a folder to look in"


def identify(  # noqa: PLR0913  # what is known of an input comes from several places
    path: Location,
    pin: str | None,
    locked: str | None,
    digests: Digests,
    *,
    read: bool,
    variant: str | None = None,
    elsewhere: LockedInput | None = None,
    shelf: Shelf | None = None,
) -> InputFile:
    """The identity of an input; ``read`` hashes it where the memo does not know it.

    ``variant`` chooses among the weights of a folder, which a ``shelf`` keeps as surveyed. The sha256
    that is ``locked`` counts for a file ``elsewhere`` if its server has it as the lock does. A
    repository of the Hub is taken at the commit that its revision means now.

    Raises :class:`~lorapipe.errors.InputError` ``sha256-mismatch`` when the pin is known to be wrong,
    and for a folder as :func:`~lorapipe.formats.folders.survey` does, for a URL as
    :func:`~lorapipe.remote.filesystem.faults`.
    """
    found = _found(path, variant, shelf or Shelf())
    # What a pin names is fetched and hashed beside the work: elsewhere that takes its time.
    ahead = read and not (found.states and pin is not None)
    sha256 = found.digest(digests.hash if ahead else digests.known)
    if sha256 is not None:
        if pin is not None and sha256 != pin.lower():
            raise pin_mismatch(path, sha256, pin)
        stated = any(state.sha256 is not None for state in found.states.values())
        return replace(found, sha256=sha256, certainty=Certainty.STATED if stated else Certainty.CHECKED)
    if pin is not None:
        return replace(found, sha256=pin.lower(), certainty=Certainty.PINNED)
    if locked is not None and _as_locked(found, elsewhere):
        return replace(found, sha256=locked, certainty=Certainty.LOCKED)
    return found


def as_found(source: InputFile) -> bool:
    """Whether a server still has an input as it was found; asks for the state of each of its files."""
    versions = [file for file in source.files if isinstance(file, Version)]
    now = states(version.url for version in versions if not is_fixed(version.url))
    return all(
        is_fixed(version.url) or ((seen := now[version.url]) is not None and seen.same_as(version.state))
        for version in versions
    )


def _as_locked(found: InputFile, locked: LockedInput | None) -> bool:
    """Whether a file may be what the lock has; one of this machine may always be."""
    if not found.states or locked is None:
        return True
    return found.etag is not None and (found.etag, found.size) == (locked.etag, locked.size)


def pin_mismatch(path: Location, sha256: str, pin: str) -> InputError:
    """The error for an input of this ``sha256`` where the recipe pins another."""
    return InputError(
        "sha256-mismatch",
        f"'{path.name}' has sha256 {sha256[:12]}..., the recipe pins {pin.lower()[:12]}...",
        hint="fetch the pinned file again, or change the pin to take this one",
        option="sha256",
    )


def _found(path: Location, variant: str | None, shelf: Shelf) -> InputFile:
    """An input of which nothing is known but what lies there."""
    if is_folder(path):
        contents = shelf.survey(path, variant)
        size, states = contents.size, contents.states
        return InputFile(
            _at(path, contents.root), size, None, Certainty.UNKNOWN, contents.root, contents.names, states
        )
    if not isinstance(path, Url):
        return InputFile(path, path.stat().st_size, None, Certainty.UNKNOWN)
    found = state(path)
    url = at_revision(path, found.revision)
    return InputFile(url, found.size, None, Certainty.UNKNOWN, states={"": found})


def _at(path: Location, root: Location) -> Location:
    """A folder, or the index of one, where it was found: of the Hub at a commit."""
    if not isinstance(path, Url) or path.is_folder:
        return root if isinstance(path, Url) else path
    return root / path.name
