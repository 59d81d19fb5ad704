r"""What a folder holds, as one digest: the sha256 of the list of its files.

The list is that of GNU ``sha256sum``, sorted by the bytes of the names, so that a shell gives
the same digest: ``find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

__all__ = ["folder_size", "listed", "listing_digest", "walk", "whole_digest"]

_ODD = "-"
"""What stands for the digest of what is no file: a link, a pipe, a folder that holds nothing."""


def listing_digest(files: Mapping[str, str]) -> str:
    """The digest of a folder from the sha256 of each file, by name relative to it.

    >>> empty = hashlib.sha256(b"").hexdigest()
    >>> listing_digest({"b": empty, "a": empty})[:16]
    'f87e14d51c60a125'
    """
    lines = (_line(name, files[name]) for name in sorted(files, key=os.fsencode))
    return hashlib.sha256(b"".join(lines)).hexdigest()


def listed(names: Iterable[str], of: Callable[[str], str | None]) -> str | None:
    """The digest of a folder of the files ``names``, each as ``of`` knows it; ``None`` if it does not."""
    return _digest((name, of(name)) for name in names)


def whole_digest(folder: Path, of: Callable[[Path], str | None]) -> str | None:
    """The digest of a folder with everything in it, hidden files too; ``None`` as :func:`listed`.

    What is no regular file, and a folder that holds nothing, is part of it: no folder that
    lorapipe wrote has such. Raises ``OSError`` for a folder that cannot be read.
    """
    return _digest((name, of(folder / name) if regular else _ODD) for name, regular in walk(folder))


def _digest(files: Iterable[tuple[str, str | None]]) -> str | None:
    found: dict[str, str] = {}
    for name, sha256 in files:
        if sha256 is None:
            return None
        found[name] = sha256
    return listing_digest(found)


def folder_size(folder: Path) -> int:
    """Bytes of all regular files in a folder. Raises ``OSError``."""
    return sum((folder / name).stat().st_size for name, regular in walk(folder) if regular)


def walk(folder: Path, above: str = "") -> Iterator[tuple[str, bool]]:
    """Everything in a folder by relative name, and whether it is a regular file; no link is followed.

    Names begin with ``above``. Raises ``OSError``.
    """
    for entry in sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name)):
        name = above + entry.name
        if not entry.is_dir(follow_symlinks=False):
            yield name, entry.is_file(follow_symlinks=False)
            continue
        inner = list(walk(folder / entry.name, f"{name}/"))
        yield from inner or [(name, False)]


def _line(name: str, sha256: str) -> bytes:
    plain = os.fsencode(name)
    escaped = plain.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if escaped != plain else b"") + sha256.encode() + b"  " + escaped + b"\n"
