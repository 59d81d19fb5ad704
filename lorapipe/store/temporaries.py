"""Hidden names beside an output: what is being written, what was moved aside, and their clearing away.

    .lorapipe-<process id>-<16 hex digits>.tmp   a file or folder that has no name yet, or is to go
    .lorapipe-<process id>-<16 hex digits>.old   a folder around what a new output takes the name of
    .lorapipe-<target>-<key>.part                a folder to be, with which a later build may go on

They lie in the target's folder, since a rename is atomic only within a file system. Who uses
one holds a kernel lock on it: that, beside the process id in its name, tells :func:`sweep`
that it is in use, be it from another container. A part's name is made of the target's name and
of the key of what it is to become, so that who builds just that finds it; who brings whole files
into it shares its lock with others who do, and who writes in it has it alone.

On NFS the locks of files are the server's, those of folders each machine's own: across machines a part's
lock saves work, and no more (:mod:`~lorapipe.store.part_files` says why nothing rests on it).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = [
    "KEPT_S",
    "claim_part",
    "create_file",
    "create_folder",
    "part_of",
    "put_back",
    "release_part",
    "set_aside",
    "sweep",
    "sweep_parts",
    "throw_away",
]

KEPT_S = 7 * 24 * 3600
"""Seconds for which a part waits for the build that goes on with it."""

_TAKEN = 5
"""Times that a part is made: who had it may give it its name, and so take it away, just now."""

_POLL_S = 0.1

_HELD = (errno.EWOULDBLOCK, errno.EACCES)
"""What a lock that another process holds is told by."""

_NAME = re.compile(r"\.lorapipe-(?P<pid>[0-9]+)-[0-9a-f]{16}\.(?P<use>tmp|old)")
_PART = re.compile(r"\.lorapipe-(?P<target>[0-9a-f]{16})-(?P<key>[0-9a-f]{32})\.part")


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


def part_of(target: Path, key: str) -> Path:
    """Where what is finished of a folder waits: one place for each target and ``key`` (hexadecimal)."""
    return target.parent / f".lorapipe-{_tag(target)}-{key[:32]}.part"


def claim_part(
    target: Path, key: str, *, shared: bool = False, waiting: Callable[[], None] | None = None
) -> tuple[Path, int] | None:
    """The part of ``target``, made if it is not there, and a descriptor that holds its lock.

    ``None`` where another process holds it, or where the file system knows no locks: two
    processes must never write into one. With ``waiting``, which is called again and again and may
    raise to give up, another process is waited for, and a file system without locks is taken as it
    is. ``shared`` is with others who ask for that. Raises ``OSError``.
    """
    path = part_of(target, key)
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    tries = 0
    while waiting is not None or tries < _TAKEN:
        tries += 1
        with suppress(FileExistsError):
            # Who is waited for may take the folder above away, too, which he had made.
            path.mkdir(parents=waiting is not None)
        fd = _locked(path, operation, without=waiting is not None)
        if fd is not None:
            return path, fd
        if waiting is not None:
            waiting()
            time.sleep(_POLL_S)
        elif os.path.lexists(path):
            return None
    return None


def release_part(part: Path, fd: int) -> None:
    """Let go of a part, and remove it if it is empty and nobody else uses it."""
    try:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.rmdir()
    finally:
        os.close(fd)


def sweep_parts(target: Path, key: str | None = None) -> None:
    """Remove what no process uses of the parts of ``target``, but for that of ``key``."""
    own = None if key is None else part_of(target, key)
    with suppress(OSError):
        for path in _hidden(target.parent):
            found = _PART.fullmatch(path.name)
            if found is not None and found["target"] == _tag(target) and path != own:
                _throw_away_part(path)


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

    What one of them had set aside gets its name back, unless the new output has it; a part waits
    for :data:`KEPT_S`. Other files, those of living processes and those that cannot be removed stay.
    """
    swept = []
    with suppress(OSError):
        for path in _hidden(folder):
            with suppress(OSError):
                if _swept(path):
                    swept.append(path)
    return tuple(swept)


def _hidden(folder: Path) -> list[Path]:
    """What may be ours in a folder, sorted; by names alone, since a sweep has thousands of files in one."""
    return [folder / name for name in sorted(os.listdir(folder)) if name.startswith(".lorapipe-")]  # noqa: PTH208  # no Path each


def _swept(path: Path) -> bool:
    """Clear one path away if it is ours and nobody's any more; whether it is gone."""
    if _PART.fullmatch(path.name) is not None:
        if time.time() - path.lstat().st_mtime <= KEPT_S:
            return False
        _throw_away_part(path)
        return not os.path.lexists(path)
    found = _NAME.fullmatch(path.name)
    if found is None or _alive(int(found["pid"])) or not _abandoned(path):
        return False
    if found["use"] == "old" and path.is_dir():
        put_back(path)
    else:
        throw_away(path)
    return not os.path.lexists(path)


def _throw_away_part(path: Path) -> None:
    """Remove a part that no process holds, under its lock: nobody may begin to use it meanwhile."""
    fd = _locked(path)
    if fd is None:
        return
    try:
        with suppress(OSError):
            throw_away(path.rename(_fresh(path.parent, "tmp")))
    finally:
        os.close(fd)


def _locked(part: Path, operation: int = fcntl.LOCK_EX, *, without: bool = False) -> int | None:
    """A descriptor that holds a part's lock; ``None`` if another process does, or it is no folder any more.

    A file system without kernel locks has no parts, but for who does ``without``.
    """
    try:
        fd = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError:
        if without:
            raise  # no folder of ours: there is nothing to wait for
        return None
    try:
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except OSError as error:
            if not without or error.errno in _HELD:
                raise
        # Who had the lock may have given the folder its name, or removed it.
        if os.path.samestat(os.fstat(fd), part.lstat()):
            return fd
    except OSError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _tag(target: Path) -> str:
    return hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]


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
        # NFS grants a lock for one alone only to who may write, and would answer with another error.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _HELD
    finally:
        os.close(fd)
    return True
