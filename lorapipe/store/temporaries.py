"""Hidden names beside an output: what is being written, what was moved aside, and their clearing away.

    .lorapipe-<process id>-<16 hex digits>.tmp   a file or folder that has no name yet, or is to go
    .lorapipe-<process id>-<16 hex digits>.old   a folder around what a new output takes the name of

They lie in the target's folder, since a rename is atomic only within a file system. Who made
one holds a kernel lock on it: that, beside the process id in its name, tells :func:`sweep`
that it is in use, be it from another container.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

__all__ = ["create_file", "create_folder", "put_back", "set_aside", "sweep", "throw_away"]

_NAME = re.compile(r"\.lorapipe-(?P<pid>[0-9]+)-[0-9a-f]{16}\.(?P<use>tmp|old)")


def create_file(folder: Path) -> tuple[Path, int]:
    """A new file in ``folder``, open for writing and locked. Raises ``OSError``."""
    path = _fresh(folder, "tmp")
    # 0o666 is what the umask is taken from; O_EXCL refuses a link that someone put there.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    _hold(fd)
    return path, fd


def create_folder(folder: Path, use: str = "tmp") -> tuple[Path, int]:
    """A new folder in ``folder``, and a descriptor that holds its lock. Raises ``OSError``."""
    path = _fresh(folder, use)
    path.mkdir()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
    _hold(fd)
    return path, fd


def set_aside(target: Path) -> tuple[Path, int] | None:
    """Move what is at ``target`` into a new hidden folder beside it; ``None`` if nothing is there.

    Under its own name, so that :func:`sweep` knows where it belongs. A link is moved, not followed.
    Raises ``OSError``; then the target is where it was.
    """
    if not os.path.lexists(target):
        return None
    aside, fd = create_folder(target.parent, "old")
    try:
        target.rename(aside / target.name)
    except BaseException as error:
        os.close(fd)
        with suppress(OSError):
            aside.rmdir()
        if isinstance(error, FileNotFoundError):
            return None  # another process moved it meanwhile
        raise
    return aside, fd


def put_back(aside: Path) -> None:
    """Undo :func:`set_aside` where the name is free; where it is not, what was set aside is outdated."""
    for old in tuple(aside.iterdir()):
        target = aside.parent / old.name
        if not os.path.lexists(target):
            old.rename(target)
    throw_away(aside)


def throw_away(path: Path) -> None:
    """Remove a hidden file or folder with all that is in it; what cannot be removed stays."""
    with suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        if path.suffix == ".old":
            # Half removed it must not be put back by a sweep.
            path = path.rename(path.with_suffix(".tmp"))
        shutil.rmtree(path, ignore_errors=True)


def sweep(folder: Path) -> tuple[Path, ...]:
    """Clear away what dead processes left in ``folder``, and name it.

    What one of them had set aside gets its name back, unless the new output has it. Other
    files, those of living processes and those that cannot be removed stay.
    """
    swept = []
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            found = _NAME.fullmatch(path.name)
            if found is not None and not _alive(int(found["pid"])) and _abandoned(path):
                with suppress(OSError):
                    if found["use"] == "old" and path.is_dir():
                        put_back(path)
                    else:
                        throw_away(path)
                if not os.path.lexists(path):
                    swept.append(path)
    return tuple(swept)


def _fresh(folder: Path, use: str) -> Path:
    return folder / f".lorapipe-{os.getpid()}-{os.urandom(8).hex()}.{use}"


def _hold(fd: int) -> None:
    # Without kernel locks on this file system the process id in the name has to do.
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it is there, and another user's
    return True


def _abandoned(path: Path) -> bool:
    """Whether no process, in this container or another, holds the lock of a file or folder."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(fd)
    return True
