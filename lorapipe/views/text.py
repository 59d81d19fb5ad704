"""Small things that every view says in the same way."""

from __future__ import annotations

__all__ = ["bytes_text", "visible"]


def bytes_text(size: int) -> str:
    """A size as people say it, in powers of 1000 as file managers do.

    >>> bytes_text(999), bytes_text(6_937_676_352)
    ('999 B', '6.94 GB')
    """
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{size} B" if unit == "B" else f"{value:.3g} {unit}"


def visible(text: str) -> str:
    r"""The text with control characters shown as escapes: a name cannot steer a terminal.

    >>> visible("a" + chr(27) + "[31m")
    'a\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
