"""The files a recipe names: inputs found and identified, outputs kept where they belong."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Protocol

from lorapipe.errors import InputError, RecipeError

__all__ = [
    "Certainty",
    "Digests",
    "Folders",
    "InputFile",
    "find_input",
    "identify",
    "place_output",
    "same_file",
]


_LONGEST = 255
"""Bytes of a name between two slashes: the limit of the usual file systems."""


class Certainty(Enum):
    """How the sha256 of an input is known."""

    CHECKED = "checked"
    PINNED = "pinned, not checked"
    LOCKED = "locked, not checked"
    UNKNOWN = "not hashed yet"


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input as found: its absolute path, size in bytes, sha256 as far as known."""

    path: Path
    size: int
    sha256: str | None
    certainty: Certainty


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
    """sha256 by file: ``known`` asks the stat memo only, ``hash`` reads the file if it must."""

    def known(self, path: Path) -> str | None: ...

    def hash(self, path: Path) -> str: ...


def find_input(name: str, pin: str | None, folders: Folders, digests: Digests) -> Path:
    """The file that ``load`` names: beside the recipe, then in the model folders.

    A pinned file that was renamed is found in the model folders by the digest that
    the memo has of it; nothing is hashed for that. Raises
    :class:`~lorapipe.errors.InputError` (``input-missing``) and
    :class:`~lorapipe.errors.RecipeError` (``name-too-long``).
    """
    _check_name(name, "load")
    tried = [folders.recipe / name, *(folder / name for folder in folders.models)]
    for path in tried:
        if path.is_file():
            return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links and hide the name
    if pin is not None:
        for path in _siblings(folders.models, Path(name).suffix):
            if digests.known(path) == pin.lower():
                return Path(os.path.abspath(path))  # noqa: PTH100  # see above
    raise InputError("input-missing", f"no file '{name}'", hint=_missing_hint(name, tried), option="load")


def _check_name(name: str, option: str) -> None:
    """Refuse a name that no file can have, before the system is asked for it."""
    longest = max(len(part.encode("utf-8", "surrogatepass")) for part in name.split("/"))
    if longest > _LONGEST:
        raise RecipeError(
            "name-too-long",
            f"a name of {longest} bytes is longer than a file's can be",
            hint=f"{_LONGEST} bytes at most",
            option=option,
        )


def _siblings(folders: Iterable[Path], suffix: str) -> Iterable[Path]:
    for folder in folders:
        yield from sorted(p for p in folder.rglob(f"*{suffix}") if p.is_file())


def _missing_hint(name: str, tried: list[Path]) -> str:
    if tried[0].is_dir():
        return "it is a folder: name a file in it"
    folder = tried[0].parent
    if folder.is_dir():
        # Endings are so long and alike that with them any two names would seem near.
        stems = {path.stem: path.name for path in sorted(folder.iterdir())}
        near = get_close_matches(Path(name).stem, stems, n=1)
        if near:
            return f"did you mean '{Path(name).with_name(stems[near[0]]).as_posix()}'?"
    looked = ", ".join(str(path.parent) for path in tried)
    return f"looked in {looked}; --models DIR adds a folder to look in"


def identify(path: Path, pin: str | None, locked: str | None, digests: Digests, read: bool) -> InputFile:
    """The identity of an input; ``read`` hashes it where the memo does not know it.

    Raises :class:`~lorapipe.errors.InputError` (``sha256-mismatch``) when the pin is
    known to be wrong.
    """
    size = path.stat().st_size
    sha256 = digests.hash(path) if read else digests.known(path)
    if sha256 is not None:
        if pin is not None and sha256 != pin.lower():
            raise InputError(
                "sha256-mismatch",
                f"'{path.name}' has sha256 {sha256[:12]}..., the recipe pins {pin.lower()[:12]}...",
                hint="fetch the pinned file again, or change the pin to take this one",
                option="sha256",
            )
        return InputFile(path, size, sha256, Certainty.CHECKED)
    if pin is not None:
        return InputFile(path, size, pin.lower(), Certainty.PINNED)
    if locked is not None:
        return InputFile(path, size, locked, Certainty.LOCKED)
    return InputFile(path, size, None, Certainty.UNKNOWN)


def place_output(name: str, folders: Folders) -> Path:
    """The absolute path of an output: folders without links, its own name as it is.

    A link of that name is replaced by the output, never followed.

    Raises :class:`~lorapipe.errors.RecipeError`: ``output-escapes`` when it lies outside
    the recipe's folder or ``--output-root``, ``output-is-folder``, ``output-under-file``
    when what should be one of its folders is a file, and ``name-too-long``.
    """
    _check_name(name, "to")
    root = folders.outputs.resolve()
    path = (root / name).parent.resolve() / Path(name).name
    if not path.is_relative_to(root):
        raise RecipeError(
            "output-escapes",
            f"'{name}' is outside {root}",
            hint="outputs stay under the recipe's folder; --output-root DIR names another",
            option="to",
        )
    if path.is_dir():
        raise RecipeError("output-is-folder", f"'{name}' is a folder", hint="name a file in it", option="to")
    lowest = next(folder for folder in path.parents if folder.exists())
    if not lowest.is_dir():
        raise RecipeError(
            "output-under-file",
            f"'{name}' cannot be in '{lowest.name}', which is a file",
            hint="name another folder",
            option="to",
        )
    return path


def same_file(output: Path, inputs: Mapping[str, Path]) -> str | None:
    """The step whose input is the same file as ``output``, by device and inode."""
    try:
        target = output.stat()
    except OSError:
        return None
    for step, path in inputs.items():
        found = path.stat()
        if (found.st_dev, found.st_ino) == (target.st_dev, target.st_ino):
            return step
    return None
