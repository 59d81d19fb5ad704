"""The files and folders a recipe names: inputs found and identified, outputs kept where they belong."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import Enum
from pathlib import Path, PureWindowsPath
from typing import Protocol

from lorapipe.errors import InputError, RecipeError
from lorapipe.formats.files import names_folder
from lorapipe.formats.folders.survey import is_folder, survey
from lorapipe.store.contents import listed

__all__ = [
    "Certainty",
    "Digests",
    "Folders",
    "InputFile",
    "find_input",
    "identify",
    "pin_mismatch",
    "place_output",
]


_LONGEST = 255
"""Bytes of a name between two slashes: the limit of the usual file systems."""

_LONGEST_PATH = 3_800
"""Bytes of a whole path: Linux' limit of 4,096, less the temporary names under which outputs are made."""

_DRIVE = re.compile(r"[A-Za-z]:")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)


class Certainty(Enum):
    """How the sha256 of an input is known."""

    CHECKED = "checked"
    PINNED = "pinned, not checked"
    LOCKED = "locked, not checked"
    UNKNOWN = "not hashed yet"


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input as found: its absolute path, size in bytes, sha256 as far as known.

    Of a folder ``parts`` are the files that count, relative to ``folder``, and the sha256 is that
    of their list (:func:`~lorapipe.store.contents.listing_digest`).
    """

    path: Path
    size: int
    sha256: str | None
    certainty: Certainty
    folder: Path | None = None
    parts: tuple[str, ...] = ()

    def digest(self, of: Callable[[Path], str | None]) -> str | None:
        """The sha256, where ``of`` gives that of a file; ``None`` as soon as it does not know one."""
        return of(self.path) if self.folder is None else listed(self.folder, self.parts, of)


@dataclass(frozen=True, slots=True)
class Folders:
    """Where relative names start: the recipe's folder, ``--models``, ``--output-root``."""

    recipe: Path
    models: tuple[Path, ...] = ()
    output_root: Path | None = None

    @property
    def outputs(self) -> Path:
        return self.output_root if self.output_root is not None else self.recipe


class Digests(Protocol):
    """sha256 by file: ``known`` asks the stat memo only, ``hash`` reads the file if it must.

    That of a folder is the digest of all that lies in it.
    """

    def known(self, path: Path) -> str | None: ...

    def hash(self, path: Path) -> str: ...


def find_input(name: str, pin: str | None, folders: Folders, digests: Digests) -> Path:
    """The file or folder that ``load`` names: beside the recipe, then in the model folders.

    A pinned file that was renamed is found in the model folders by the digest that
    the memo has of it; nothing is hashed for that. Raises
    :class:`~lorapipe.errors.InputError` (``input-missing``) and
    :class:`~lorapipe.errors.RecipeError` (``name-too-long``).
    """
    tried = [folders.recipe / name, *(folder / name for folder in folders.models)]
    for path in tried:
        _check_name(name, path, "load")
    for path in tried:
        if path.is_file() or path.is_dir():
            return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links and hide the name
    if pin is not None and (suffix := Path(name).suffix):
        for path in _siblings(folders.models, suffix):
            if digests.known(path) == pin.lower():
                return Path(os.path.abspath(path))  # noqa: PTH100  # see above
    raise InputError("input-missing", f"no file '{name}'", hint=_missing_hint(name, tried), option="load")


def _check_name(name: str, path: Path, option: str) -> None:
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


def _check_portable(name: str) -> None:
    """Refuse what Windows would take for another place than a folder under the recipe's, or for no file.

    A recipe means the same wherever it is run. *Source*: Microsoft, "Naming Files, Paths, and Namespaces".
    """
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    odd = next((part for part in parts if part[-1:] in (" ", ".") or _DEVICE.fullmatch(part)), None)
    if "\\" in name or _DRIVE.match(name):
        hint = "folders are parted by /, and begin at the recipe's"
        raise RecipeError("output-not-portable", f"'{name}' is a path of Windows", hint=hint, option="to")
    if odd is not None:
        message, hint = f"'{odd}' is no name of a file on Windows", "choose another name"
        raise RecipeError("output-not-portable", message, hint=hint, option="to")


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


def identify(
    path: Path,
    pin: str | None,
    locked: str | None,
    digests: Digests,
    *,
    read: bool,
    variant: str | None = None,
) -> InputFile:
    """The identity of an input; ``read`` hashes it where the memo does not know it.

    ``variant`` chooses among the weights of a folder. Raises :class:`~lorapipe.errors.InputError`
    ``sha256-mismatch`` when the pin is known to be wrong, and for a folder as
    :func:`~lorapipe.formats.folders.survey` does.
    """
    found = _found(path, variant)
    sha256 = found.digest(digests.hash if read else digests.known)
    if sha256 is not None:
        if pin is not None and sha256 != pin.lower():
            raise pin_mismatch(path, sha256, pin)
        return replace(found, sha256=sha256, certainty=Certainty.CHECKED)
    if pin is not None:
        return replace(found, sha256=pin.lower(), certainty=Certainty.PINNED)
    if locked is not None:
        return replace(found, sha256=locked, certainty=Certainty.LOCKED)
    return found


def pin_mismatch(path: Path, sha256: str, pin: str) -> InputError:
    """The error for an input of this ``sha256`` where the recipe pins another."""
    return InputError(
        "sha256-mismatch",
        f"'{path.name}' has sha256 {sha256[:12]}..., the recipe pins {pin.lower()[:12]}...",
        hint="fetch the pinned file again, or change the pin to take this one",
        option="sha256",
    )


def _found(path: Path, variant: str | None) -> InputFile:
    """An input of which nothing is known but what lies there."""
    if not is_folder(path):
        return InputFile(path, path.stat().st_size, None, Certainty.UNKNOWN)
    contents = survey(path, variant)
    return InputFile(path, contents.size, None, Certainty.UNKNOWN, contents.root, contents.names)


def place_output(name: str, folders: Folders) -> Path:
    """The absolute path of an output: folders without links, its own name as it is.

    A link of that name is replaced by the output, never followed.

    Raises :class:`~lorapipe.errors.RecipeError`: ``output-escapes`` when it lies outside
    the recipe's folder or ``--output-root``, ``output-is-folder`` or ``output-is-file`` when it
    is to be the other, ``output-holds-recipe``, ``output-under-file`` when what should be one of
    its folders is a file, ``output-not-portable``, and ``name-too-long``.
    """
    root = folders.outputs.resolve()
    _check_name(name, root / name, "to")
    _check_portable(name)
    path = (root / name).parent.resolve() / Path(name).name
    if not path.is_relative_to(root) or Path(name).name == "..":
        raise RecipeError(
            "output-escapes",
            f"'{name}' is outside {root}",
            hint="outputs stay under the recipe's folder; --output-root DIR names another",
            option="to",
        )
    _check_sort(path, name, folders)
    lowest = next(folder for folder in path.parents if folder.exists())
    if not lowest.is_dir():
        raise RecipeError(
            "output-under-file",
            f"'{name}' cannot be in '{lowest.name}', which is a file",
            hint="name another folder",
            option="to",
        )
    return path


def _check_sort(path: Path, name: str, folders: Folders) -> None:
    """See that a file is not to become a folder, nor the other way round, nor the recipe be replaced."""
    if not names_folder(name):
        if path.is_dir():
            hint = f"name a file in it, or '{name}/' to write a folder"
            raise RecipeError("output-is-folder", f"'{name}' is a folder", hint=hint, option="to")
        return
    if path.exists() and not path.is_dir():
        hint = "remove it, or name another folder"
        raise RecipeError("output-is-file", f"'{name}' is a file", hint=hint, option="to")
    if folders.recipe.resolve().is_relative_to(path.resolve()):
        raise RecipeError(
            "output-holds-recipe", f"'{name}' holds the recipe", hint="name a folder of its own", option="to"
        )
