"""Sizes as people write them: of a LoRA's file, of a shard, of a build's memory."""

from __future__ import annotations

import re
from fractions import Fraction

from lorapipe.errors import RecipeError

__all__ = ["size_in_bytes"]

_UNITS = {"B": 1, **{f"{p}B": 1000**n for n, p in enumerate("kMGT", 1)}, "KB": 1000}
_UNITS |= {f"{p}iB": 1024**n for n, p in enumerate("KMGT", 1)}

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kKMGT]?i?B)")
_MOST_DIGITS = 30


def size_in_bytes(size: int | str) -> int:
    """A size as a recipe or an option gives it: bytes, or a number with a unit.

    >>> [size_in_bytes(size) for size in (4096, "4096", "100MB", "1.5 GB", "80MiB")]
    [4096, 4096, 100000000, 1500000000, 83886080]

    Raises :class:`RecipeError` ``bad-size``.
    """
    if isinstance(size, int):
        return size
    if re.fullmatch(f"[0-9]{{1,{_MOST_DIGITS}}}", size):
        return int(size)
    found = _SIZE.fullmatch(size)
    if found is None or found[2] not in _UNITS:
        raise RecipeError("bad-size", f"no size: '{size}'", hint="such as 100MB or 80MiB", option="max-size")
    return int(Fraction(found[1]) * _UNITS[found[2]])
