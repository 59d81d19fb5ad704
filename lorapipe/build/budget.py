"""How large the store may be."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lorapipe.errors import RecipeError, UsageError
from lorapipe.recipe.sizes import size_in_bytes

__all__ = ["DEFAULT", "VARIABLE", "store_budget"]

VARIABLE = "LORAPIPE_STORE_SIZE"
"""The environment variable that sets the size, such as ``20GiB``."""

DEFAULT = 50 * 2**30
"""Bytes; on a small disk it is a tenth of that."""


def store_budget(environment: Mapping[str, str], root: Path) -> int:
    """The bytes that results may take in the store at ``root`` when a build has ended.

    Raises :class:`~lorapipe.errors.UsageError` ``bad-store-size``.
    """
    text = environment.get(VARIABLE)
    if text:
        try:
            return size_in_bytes(text)
        except RecipeError:
            message = f"{VARIABLE} is no size: '{text[:40]}'"
            raise UsageError("bad-store-size", message, hint="such as 20GiB, or unset it") from None
    for folder in (root, *root.parents):
        with suppress(OSError):
            return min(DEFAULT, shutil.disk_usage(folder).total // 10)
    return DEFAULT
