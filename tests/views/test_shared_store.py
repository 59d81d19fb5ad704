"""How a build with a shared store is shown: what comes from it, what goes to it, what is warned of."""

from __future__ import annotations

from lorapipe.build.events import Event, Note, Progress, Sharing, StepDone, StepStarted, Warned
from lorapipe.views.board import Board
from lorapipe.views.cells import glyphs
from lorapipe.views.notes import note_lines
from lorapipe.views.progress import Lines
from lorapipe.views.said import Teller


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def drawn(board: Board) -> str:
    return "\n".join(line.plain for line in board.lines(100, 30, glyphs("utf-8")))


def test_the_board_says_what_comes_from_the_shared_store() -> None:
    clock = Clock()
    board = Board(clock)
    board.tell(StepStarted("small", "svd-resize", 1, 2))
    for second in range(4):
        clock.now = float(second)
        board.tell(Progress("small", second * 10_000_000, 80_000_000, "fetched"))

    assert "30 MB of 80 MB from the shared store, 10 MB/s" in drawn(board)


def test_the_board_says_what_goes_to_the_shared_store_and_for_how_long() -> None:
    clock = Clock()
    board = Board(clock)
    board.tell(StepStarted("small", "svd-resize", 1, 1))
    board.tell(StepDone("small", "built", 1.0))
    for second in range(5):
        clock.now = float(second)
        board.tell(Sharing(second * 10_000_000, 80_000_000))
    shown = drawn(board)

    assert "to the shared store  " in shown
    assert " 50%" in shown
    assert "40 MB of 80 MB, 10 MB/s, 1 of 1 steps, 0:04 so far, 0:04 left" in shown
    board.tell(Sharing(80_000_000, 80_000_000))
    assert "to the shared store" not in drawn(board)


def test_a_log_has_a_line_now_and_then() -> None:
    clock, lines = Clock(), list[str]()
    shown = Lines(lines.append, Teller(steps=True), clock)
    for second in range(0, 70, 5):
        clock.now = float(second)
        shown.tell(Sharing(second * 1_000_000, 100_000_000))

    assert len(lines) == 2
    assert lines[0].startswith("to the shared store: 30%, 30 MB of 100 MB, 1 MB/s")


def test_a_warning_is_a_line_whoever_watches() -> None:
    event: Event = Warned("the shared store s3://team/x is not asked: the server refuses access (403)")
    for teller in (Teller(steps=True), Teller(steps=False), Teller(steps=False, verbose=True)):
        assert list(teller.lines(event)) == [f"warning: {event.message}"]


def test_notes_of_a_stranger_are_shown_as_they_are() -> None:
    for fact in ("energy", "error", "ranks", "holds"):
        for value in (
            {"a": "b"},
            {"a": None},
            {"rank": 3},
            {"rank": {"min": 1}},
            {"norm": []},
            [1],
            "x",
            10**400,
        ):
            (line,) = note_lines(Note("s", fact, value))
            assert line.startswith("s: ")
