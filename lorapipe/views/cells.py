"""Text in the cells of a terminal: the signs that it has, bars, names and lines that fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from lorapipe.views.text import visible

__all__ = ["Glyphs", "bar", "cell", "fitted", "glyphs", "packed", "written"]


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The signs that a terminal's encoding has."""

    encoding: str
    done: str
    failed: str
    at_work: str
    full: str
    empty: str
    cut: str


def glyphs(encoding: str) -> Glyphs:
    """Signs that can be written in an encoding; plain ASCII where the better ones are not in it."""
    try:
        "✓✗▸━─…".encode(encoding)
    except LookupError:
        return glyphs("ascii")
    except UnicodeEncodeError:
        return Glyphs(encoding, "+", "!", ">", "#", ".", "~")
    return Glyphs(encoding, "✓", "✗", "▸", "━", "─", "…")


def bar(part: float, width: int, signs: Glyphs) -> Text:
    """A bar with its percentage, or just that where there is no room; 100 % only of what is whole."""
    percent = f"{min(99, int(part * 100)) if part < 1.0 else 100:3d}%"
    room = width - len(percent) - 1
    if room < 4:  # less shows nothing
        return Text(percent)
    full = min(room, int(part * room))
    drawn = Text(signs.full * full, style="cyan")
    drawn.append(signs.empty * (room - full), style="dim")
    return drawn.append(f" {percent}", style="default")


def packed(facts: Sequence[str], width: int) -> Iterator[str]:
    """The facts on as few lines as hold them, none of them parted."""
    line = ""
    for fact in facts:
        longer = f"{line}, {fact}" if line else fact
        if line and cell_len(longer) > width:
            yield line
            line = fact
        else:
            line = longer
    if line:
        yield line


def written(text: str, signs: Glyphs) -> str:
    """The text as it comes to stand on the terminal, whose encoding may lack some of it."""
    shown = visible(text)
    try:
        shown.encode(signs.encoding)
    except UnicodeEncodeError:
        return shown.encode("ascii", "backslashreplace").decode("ascii")
    return shown


def cell(text: str, width: int, signs: Glyphs) -> str:
    """The text in just so many cells."""
    shown = written(text, signs)
    if cell_len(shown) <= width:
        return set_cell_size(shown, width)
    return set_cell_size(shown, width - 1) + signs.cut


def fitted(line: Text, width: int, signs: Glyphs) -> Text:
    """The line, cut where the terminal ends, and without spaces there: they would be wrapped."""
    line.rstrip()
    if line.cell_len > width:
        line = line[: max(0, _prefix(line.plain, width - 1))]
        line.append(signs.cut)
    line.no_wrap, line.overflow = True, "crop"
    return line


def _prefix(text: str, width: int) -> int:
    """How many characters fit so many cells."""
    taken = 0
    for place, character in enumerate(text):
        taken += cell_len(character)
        if taken > width:
            return place
    return len(text)
