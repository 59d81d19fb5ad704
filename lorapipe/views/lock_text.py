"""What ``lorapipe lock`` did, in lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lorapipe.views.text import path_text, visible

if TYPE_CHECKING:
    from lorapipe.build.proving.relock import Relocked

__all__ = ["relocked_lines"]


def relocked_lines(relocked: Relocked, folder: Path) -> Iterator[str]:
    """The file as it is read from ``folder``, what it took over (old -> new), and what it cannot say yet."""
    yield f"{visible(path_text(relocked.path, folder))}: {'written' if relocked.written else 'up to date'}"
    if relocked.drift is not None:
        yield from (f"  {visible(line)}" for line in relocked.drift.lines)
    if relocked.unbuilt:
        yield f"  not built yet: {', '.join(relocked.unbuilt)}"
