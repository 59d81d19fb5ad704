"""Files of weights, and what their headers say in a few words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lorapipe.errors import InputError, LorapipeError

__all__ = ["MAX_FILES", "SUFFIXES", "Found", "find_weights", "look_at"]

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".bin")
"""What files of weights end in."""

MAX_FILES = 500
"""The most files that are looked at; who has more says which."""

_DEPTH = 2


@dataclass(frozen=True, slots=True)
class Found:
    """A file as the command line names it.

    ``families`` are those that it may belong to, none where the names do not tell; ``said`` is
    what it is, such as ``LoRA, SDXL, rank 32, 722 modules``.
    """

    given: str
    lora: bool
    families: frozenset[str]
    title: str
    said: str


def look_at(given: str, here: Path) -> Found:
    """What a file or folder is, by its header; raises as its reader does, with the file's name."""
    from lorapipe.formats.inspection import inspect_file
    from lorapipe.views.tables import family_text, rank_text
    from lorapipe.views.text import bytes_text
    from lorapipe.weights.specs import AdapterSpec

    found = inspect_file(here / given)
    spec, title = found.spec, family_text(found.spec.family)
    if isinstance(spec, AdapterSpec):
        said = f"LoRA, {title}, {rank_text(spec)}, {len(spec.modules)} modules"
        return Found(given, True, spec.families, title, said)
    families = frozenset(() if spec.family is None else (spec.family,))
    return Found(given, False, families, title, f"checkpoint, {title}, {bytes_text(found.size)}")


def find_weights(folder: Path, leave_out: Path) -> tuple[list[Found], list[LorapipeError]]:
    """The files of weights in a folder and two levels below, and why others cannot be read.

    Hidden folders and ``leave_out``, where results go, are not looked into. Raises
    :class:`~lorapipe.errors.InputError` ``too-many-files``.
    """
    found: list[Found] = []
    troubles: list[LorapipeError] = []
    for path in _weights(folder, leave_out.resolve()):
        if len(found) + len(troubles) == MAX_FILES:
            message = f"more than {MAX_FILES} files of weights"
            raise InputError("too-many-files", message, hint="name those that you mean", where=str(folder))
        try:
            found.append(look_at(path.relative_to(folder).as_posix(), folder))
        except LorapipeError as error:
            troubles.append(error)
    return found, troubles


def _weights(folder: Path, leave_out: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        here = Path(place)
        deep = len(here.relative_to(folder).parts) >= _DEPTH
        kept = [] if deep else sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in kept if (here / name).resolve() != leave_out]
        yield from (here / name for name in sorted(files) if _is_weights(name))


def _is_weights(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)
