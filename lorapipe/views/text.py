"""Small things that every view says in the same way."""

from __future__ import annotations

import os
from math import isfinite
from pathlib import Path

from lorapipe.remote.url import Location, Url

__all__ = ["bytes_text", "clock_text", "json_number", "path_text", "visible"]


def bytes_text(size: int) -> str:
    """A size as people say it, in powers of 1000 as file managers do.

    >>> bytes_text(999), bytes_text(999_999), bytes_text(6_937_676_352)
    ('999 B', '1 MB', '6.94 GB')
    """
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if float(f"{value:.3g}") < 1000:
            break
        value, unit = value / 1000, larger
    # Three digits of 999.7 are 1000, which the format would write as a power.
    return f"{value:,.0f} {unit}" if float(f"{value:.3g}") >= 1000 else f"{value:.3g} {unit}"


def clock_text(seconds: float) -> str:
    """A length of time as a clock shows it.

    >>> clock_text(9.7), clock_text(75), clock_text(3_672)
    ('0:10', '1:15', '1:01:12')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def path_text(path: Location, folder: Path) -> str:
    """A path as it is read from ``folder``: relative inside it, absolute outside of it; a URL as it is.

    >>> path_text(Path("/a/loras/x.pt"), Path("/a")), path_text(Path("/b/x.pt"), Path("/a"))
    ('loras/x.pt', '/b/x.pt')
    """
    if isinstance(path, Url):
        return str(path)
    relative = Path(os.path.relpath(path, folder))
    return path.as_posix() if relative.parts[:1] == ("..",) else relative.as_posix()


def visible(text: str) -> str:
    r"""The text with control characters shown as escapes: a name cannot steer a terminal.

    >>> visible("a" + chr(27) + "[31m")
    'a\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def json_number(value: float) -> float | None:
    """The number as JSON has it: ``None`` for NaN and the infinities, which JSON lacks."""
    return value if isfinite(value) else None
