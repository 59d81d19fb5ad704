"""The files of a folder of weights: which of them may be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lorapipe.errors import InputError

__all__ = ["inside", "is_file", "visible"]


def inside(folder: Path, name: str) -> Path:
    """A file of a folder by its relative name, checked not to be a link that leads out of it.

    Whoever packed a folder could else have any file of its reader's copied into an output. Links
    within it are followed, and those of a download by huggingface_hub, whose ``snapshots/<commit>``
    and the components' folders in it hold nothing but links to ``blobs/``.

    Raises :class:`~lorapipe.errors.InputError` ``folder-link``.
    """
    root = Path(os.path.realpath(folder))
    snapshots = [top.parent for top in (root, root.parent) if top.parent.name == "snapshots"]
    homes = [root, *(above.parent / "blobs" for above in snapshots)]
    path = folder / name
    real = Path(os.path.realpath(path))  # which takes a link to itself as it is
    if not is_file(real) or not any(real.is_relative_to(home) for home in homes):
        raise InputError(
            "folder-link",
            f"has '{name}', which is no file in it: a link out of it, or to nothing",
            hint="put the file itself there",
            where=str(folder),
        )
    return path


def is_file(path: Path) -> bool:
    """Whether a path leads to a regular file; one that the system refuses does not."""
    try:
        return path.is_file()
    except OSError:
        return False


def visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder, hidden things left out, in the order of names. Raises ``OSError``."""
    for entry in sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name)):
        if not entry.name.startswith("."):
            yield entry
