"""How much memory the process has."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["resident"]

_STATM = Path("/proc/self/statm")


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
