"""The live view: what is drawn over what, and what is mended when a terminal becomes narrower."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from lorapipe.build.events import Note, Progress, StepStarted
from lorapipe.views.live import _mending, live_view
from lorapipe.views.said import Teller

from .screens import terminal


class Screen:
    """As much of a terminal as the live view uses: rows of text, wrapped anew when its width changes."""

    def __init__(self, width: int) -> None:
        self.width, self.rows, self.at = width, [""], 0

    def write(self, text: str) -> None:
        for part in re.findall(r"\x1b\[\??\d*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", text):
            match part[-1]:
                case "\n":
                    self.at += 1
                    self.rows += [""] * (self.at + 1 - len(self.rows))
                case "\r":
                    pass  # what is drawn begins at the left in any case
                case "A" if part[0] == "\x1b":
                    self.at = max(0, self.at - int(part[2:-1]))
                case "B" if part[0] == "\x1b":
                    self.at += int(part[2:-1])
                case "K" if part[0] == "\x1b":
                    self.rows[self.at] = ""
                case _ if part[0] == "\x1b":
                    pass  # the cursor's look
                case _:
                    self.rows[self.at] += part

    def narrow(self, width: int) -> None:
        """Wrap what is there, as tmux, VTE, kitty and iTerm2 do."""
        wrapped: list[str] = []
        for row in self.rows[: self.at + 1]:
            wrapped += [row[start : start + width] for start in range(0, max(1, len(row)), width)]
        self.rows, self.at, self.width = wrapped, len(wrapped) - 1, width

    def text(self) -> str:
        return "\n".join(row.rstrip() for row in self.rows).rstrip("\n")


def drawn(width: int = 80) -> str:
    """Everything that a build of one step and one note draws, with a change of width in its middle."""
    console, screen = terminal(width), Screen(width)
    written = 0

    def to_screen() -> None:
        nonlocal written
        text = console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
        screen.write(text[written:])
        written = len(text)

    console.print("before")
    with live_view(console, Teller(steps=False)) as tell:
        tell(StepStarted("a-step", "merge-into-checkpoint", 1, 2))
        tell(Progress("a-step", 1, 2))
        tell(Note("a-step", "fact", "one"))
        to_screen()
        assert "a-step  merge-into-checkpoint" in screen.text()
        console.width = 24
        screen.narrow(24)
        tell(Note("a-step", "fact", "two"))
        to_screen()
    to_screen()
    return screen.text()


def test_notes_stay_and_the_board_goes_whatever_the_terminal_does() -> None:
    assert drawn() == "before\na-step: fact: one\na-step: fact: two"


@pytest.mark.parametrize("widths", [(), (10,), (40, 40), (39, 1, 0)])
def test_nothing_is_mended_where_nothing_was_wrapped(widths: tuple[int, ...]) -> None:
    assert not list(_mending(widths, 40))


def test_on_a_terminal_of_another_encoding_all_is_ascii() -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii", errors="backslashreplace", write_through=True)
    console = Console(file=stream, force_terminal=True, width=60, highlight=False, color_system=None)
    with live_view(console, Teller(steps=False)) as tell:
        tell(StepStarted("o", "save", 1, 1))
        tell(Progress("o", 1, 2, "bytes"))
        tell(Note("o", "fact", "caf\u00e9"))

    drawn = written.getvalue().decode("ascii")
    assert "> o  ############............." in drawn
    assert "o: fact: caf\\xe9" in drawn
