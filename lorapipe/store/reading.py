"""Files that may be anything: a lock comes with a stranger's repository, a store on a shared disk."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

__all__ = ["MOST", "open_regular", "read_whole"]

MOST = 64 << 20
"""Bytes: a lock of ten thousand steps has a tenth of it."""


def open_regular(path: Path) -> io.FileIO:
    """A regular file, open to be read, or what a link leads to; ``OSError`` for anything else."""
    # A pipe would block the opening itself without O_NONBLOCK, and never end after it.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError("it is not a regular file")
    return io.FileIO(fd, "rb", closefd=True)


def read_whole(path: Path, most: int = MOST) -> bytes:
    """All bytes of a regular file; ``OSError`` if there are more than ``most``, or it is none."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(f"it has more than {most} bytes")
        return file.read(size)
