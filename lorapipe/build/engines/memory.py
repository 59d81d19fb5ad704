"""How much memory the process has, and how much more it could."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

__all__ = ["available", "resident"]

_STATM = Path("/proc/self/statm")
_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def resident() -> int | None:
    """Bytes of memory that the process has now, as ``top`` shows them (``RES``).

    Where the system does not tell that (macOS), the most that it ever had; ``None`` on others.
    """
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def available() -> int | None:
    """Bytes of memory that programs can still have; ``None`` on systems that do not tell.

    What the system has, or what a container's limit leaves (control groups, version 2).
    *Source*: proc(5), ``MemAvailable``; Linux, ``Documentation/admin-guide/cgroup-v2.rst``.
    """
    try:
        found = re.search(r"^MemAvailable:\s+([0-9]+) kB$", _MEMINFO.read_text(), re.MULTILINE)
    except OSError:
        return None
    if found is None:
        return None
    free = int(found[1]) << 10
    try:
        most, used = ((_GROUP / name).read_text() for name in ("memory.max", "memory.current"))
        return min(free, max(0, int(most) - int(used)))
    except (OSError, ValueError):  # no control group, or one without a limit ("max")
        return free
