"""Outputs that would fall on an input: it would be gone, or another, when the build is done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from lorapipe.formats.folders.survey import is_folder
from lorapipe.remote.url import Location, Url

__all__ = ["Overlap", "overlap"]


class Overlap(Enum):
    """What an output would do to an input."""

    SAME = "overwrite"
    HOLDS = "replace the folder around"
    INSIDE = "write into"


def overlap(output: Location, inputs: Mapping[str, Location]) -> tuple[Overlap, str] | None:
    """The step with whose input an output overlaps, by device and inode, and how."""
    if isinstance(output, Url):
        return _elsewhere(output, inputs)
    target, above = _identities(output)
    for step, path in inputs.items():
        if isinstance(path, Url):
            continue
        root = path.parent if is_folder(path) and not path.is_dir() else path
        found, holding = _identities(root)
        if found is not None and found in (target, *above):
            return (Overlap.SAME if found == target else Overlap.INSIDE), step
        if target is not None and target in holding:
            return Overlap.HOLDS, step
    return None


def _elsewhere(output: Url, inputs: Mapping[str, Location]) -> tuple[Overlap, str] | None:
    for step, path in inputs.items():
        root = path.parent if isinstance(path, Url) and is_folder(path) and not path.is_folder else path
        if output == root:
            return Overlap.SAME, step
        if isinstance(root, Url) and root.is_relative_to(output):
            return Overlap.HOLDS, step
        if isinstance(root, Url) and root.is_folder and output.is_relative_to(root):
            return Overlap.INSIDE, step
    return None


def _identities(path: Path) -> tuple[tuple[int, int] | None, set[tuple[int, int]]]:
    """Device and inode of what a path leads to (``None`` if nothing is there), and of the folders above."""
    real = Path(os.path.realpath(path))
    found = [_identity(each) for each in (real, *real.parents)]
    return found[0], {each for each in found[1:] if each is not None}


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
