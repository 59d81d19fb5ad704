"""Recipes as files that a command writes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from stat import S_IMODE

from lorapipe.errors import BuildError

__all__ = ["refuse_existing", "write_recipe"]


def refuse_existing(path: Path, hint: str = "give another name to -o, or delete it") -> None:
    """Raise :class:`~lorapipe.errors.BuildError` ``foreign-file`` if something is there."""
    if path.exists() or path.is_symlink():
        raise BuildError("foreign-file", f"'{path}' is there", hint=hint)


def write_recipe(path: Path, text: str) -> None:
    """Write a recipe whole or not at all, into folders made as needed.

    One that is there is replaced and keeps its permissions; where a link stands, what it leads to.
    """
    from lorapipe.store.atomic import stage

    target = path.resolve()
    with stage(target, label="recipe") as staged:
        staged.file.write(text.encode())
        with suppress(FileNotFoundError):
            staged.temp.chmod(S_IMODE(target.stat().st_mode))
        staged.publish()
