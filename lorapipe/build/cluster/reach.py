"""Whether a worker sees the folders that the client sees, may write in them, and sees who holds a file.

The client leaves a file with a hidden name, locked as all temporaries are: one that a worker takes
for nobody's would be swept away by it while it is written.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lorapipe.errors import BuildError, LorapipeError
from lorapipe.store.shared.reach import Token, leave_token, see_token, take_token
from lorapipe.store.temporaries import create_file

__all__ = ["Mark", "marked", "reached"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A file that the client has put into a folder, and ``what`` the folder is: the store, an output's."""

    path: Path
    what: str


@contextmanager
def marked(
    folders: Iterable[tuple[Path, str]], shared: str | None = None
) -> Iterator[tuple[Mark | Token, ...]]:
    """A mark in each folder, or in the lowest above it that there is, as long as the context lasts.

    In a ``shared`` store it is a token. Raises :class:`~lorapipe.errors.BuildError`
    ``output-unwritable`` or ``store-unwritable``.
    """
    with ExitStack() as stack:
        marks: dict[Path, Mark | Token] = {}
        if shared is not None:
            token = marks[Path()] = leave_token(shared)
            stack.callback(take_token, token)
        for folder, what in folders:
            there = next(above for above in (folder, *folder.parents) if above.is_dir())
            if there not in marks:
                marks[there] = Mark(stack.enter_context(_held_file(there)), what)
        yield tuple(marks.values())


@contextmanager
def _held_file(folder: Path) -> Iterator[Path]:
    path, fd = _created(folder)
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(fd)


def reached(mark: Mark | Token) -> Iterator[LorapipeError]:
    """What is wrong with a mark as it is seen from here."""
    if isinstance(mark, Token):
        reason = see_token(mark)
        if reason is not None:
            hint = "workers need the credentials and the network that you have"
            yield BuildError("store-unreachable", reason, hint=hint)
        return
    folder = mark.path.parent
    try:
        fd = os.open(mark.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        yield BuildError(
            "folder-not-shared",
            f"{mark.what} {folder} is not the same folder there",
            hint="outputs and store lie on a file system that workers and client share, at one path",
        )
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield BuildError(
            "locks-not-shared",
            f"locks in {mark.what} {folder} are not seen from machine to machine",
            hint="mount it with them: Lustre with -o flock, NFS without local_lock",
        )
    except OSError:
        pass
    finally:
        os.close(fd)
    try:
        with _held_file(folder):
            pass
    except LorapipeError as error:
        yield error


def _created(folder: Path) -> tuple[Path, int]:
    try:
        return create_file(folder)
    except OSError as error:
        raise BuildError(
            "output-unwritable", f"{folder} cannot be written: {error.strerror or error}"
        ) from error
