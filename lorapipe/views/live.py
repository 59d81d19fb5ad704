"""A build as it goes, on a terminal that is watched: a board that is drawn again four times a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.cells import cell_len
from rich.console import Console, ConsoleRenderable, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from lorapipe.build.events import Event, Listener
from lorapipe.views.board import Board
from lorapipe.views.cells import glyphs
from lorapipe.views.said import Teller
from lorapipe.views.text import visible

__all__ = ["live_view"]


@contextmanager
def live_view(console: Console, teller: Teller) -> Iterator[Listener]:
    """Draw the build at the bottom of the terminal while the context lasts; what is said stays above it.

    At the end, an interruption too, the board is gone and the cursor is back.
    """
    board = Board()
    with _Screen(board, console) as screen:

        def tell(event: Event) -> None:
            board.tell(event)
            lines = [*teller.lines(event)]
            for line in lines:
                console.print(Text(visible(line)), soft_wrap=True)
            if lines:  # rich printed them over the board as it was a while ago
                screen.refresh()

        try:
            yield tell
        finally:
            # Also where a second signal falls into the end of the drawing.
            console.show_cursor(True)


class _Screen(Live):
    """rich's live display, which also clears away what a terminal made of it when it became narrower."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board, self._signs = board, glyphs(console.encoding)
        self._lines: Sequence[Text] = ()
        self._drawn: tuple[int, ...] = ()
        super().__init__(
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=self._frame,
            refresh_per_second=4,
        )

    def _frame(self) -> Group:
        width, height = self.console.size
        self._lines = self._board.lines(width, height, self._signs)
        return Group(*self._lines)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """What rich prints to draw the next frame over the last, and before it what mends that one."""
        with self._lock:
            mending = Control(*_mending(self._drawn, self.console.width))
            # A frame of before, which a line that is said is printed over, is cropped by now.
            self._drawn = tuple(min(cell_len(line.plain), self.console.width) for line in self._lines)
            return [mending, *super().process_renderables(renderables)]


def _mending(drawn: Sequence[int], width: int) -> Iterator[ControlType | tuple[ControlType, int]]:
    """Clear a frame whose lines were of these widths, where the terminal has since wrapped some of them.

    A terminal that became narrower breaks lines that were whole (tmux, VTE, kitty, iTerm2 do), and the
    frame is then taller than rich knows. The cursor is left where rich looks for the frame's last line.
    """
    rows = sum(max(1, -(-cells // max(1, width))) for cells in drawn)
    if rows == len(drawn):
        return
    yield ControlType.CARRIAGE_RETURN
    yield (ControlType.ERASE_IN_LINE, 2)
    for _ in range(rows - 1):
        yield (ControlType.CURSOR_UP, 1)
        yield (ControlType.ERASE_IN_LINE, 2)
    if len(drawn) > 1:
        yield (ControlType.CURSOR_DOWN, len(drawn) - 1)
