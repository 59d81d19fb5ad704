"""A sign of life: on a terminal, between the stages, and nowhere else."""

from __future__ import annotations

import pytest

from lorapipe.views.waiting import awaited

from .screens import log, terminal, text_of


def test_stages_come_in_their_order_and_nothing_is_said_to_a_log() -> None:
    console = log()
    assert list(awaited(iter([1, 2, 3]), "reading", console)) == [1, 2, 3]
    assert text_of(console) == ""


def test_a_terminal_shows_what_is_waited_for_and_clears_it() -> None:
    console = terminal(40)
    seen = []
    for stage in awaited(iter("ab"), "reading", console):
        seen.append(console._live_stack)
        assert not console._live_stack, stage
    drawn = console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    assert "reading" in drawn
    assert drawn.rstrip().endswith("\x1b[2K")
    assert len(seen) == 2


def test_an_error_of_a_stage_comes_through_and_leaves_the_terminal_clear() -> None:
    console = terminal(40)

    def failing():  # type: ignore[no-untyped-def]  # a generator of nothing
        raise OSError("no")
        yield

    with pytest.raises(OSError, match="no"):
        list(awaited(failing(), "reading", console))
    assert not console._live_stack
