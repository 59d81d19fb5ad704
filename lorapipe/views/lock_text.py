"""What ``lorapipe lock`` did, in lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorapipe.views.text import visible

if TYPE_CHECKING:
    from lorapipe.build.relock import Relocked

__all__ = ["relocked_lines"]


def relocked_lines(relocked: Relocked) -> Iterator[str]:
    """The file, what it took over (old -> new), and what it cannot say yet."""
    yield f"{visible(str(relocked.path))}: {'written' if relocked.written else 'up to date'}"
    if relocked.drift is not None:
        yield from (f"  {visible(line)}" for line in relocked.drift.lines)
    if relocked.unbuilt:
        yield f"  not built yet: {', '.join(relocked.unbuilt)}"
