"""How far the measuring is: drawn where somebody watches, and gone when it is done."""

from __future__ import annotations

from pathlib import Path

from lorapipe.build.events import Event, Hashing, Progress, StepStarted
from lorapipe.views.report.measuring import measuring_view

from ..screens import log, terminal, text_of

EVENTS: list[Event] = [
    Hashing(Path("a\x1b[2J.safetensors"), 10**6, 4 * 10**6),
    StepStarted("a", "measure", 1, 2),
    Progress("a", 3, 4),
]


def test_a_log_is_told_nothing() -> None:
    console = log()
    with measuring_view(console) as listen:
        for event in EVENTS:
            listen(event)
    assert text_of(console) == ""


def test_a_terminal_shows_what_is_measured_and_no_name_steers_it() -> None:
    console = terminal()
    with measuring_view(console) as listen:
        for event in EVENTS:
            listen(event)
            console.print("")  # drawn anew
    drawn = console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    assert "measuring a" in drawn
    assert "3/4" in drawn
    assert "\x1b[2J" not in drawn
