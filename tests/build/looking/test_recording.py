"""What is kept of a run: all that it told, beside whoever else listens."""

from __future__ import annotations

from pathlib import Path

from lorapipe.build.events import Event, Note, OutputReady, StepDone, StepStarted
from lorapipe.build.looking.recording import Recording
from lorapipe.build.looking.report import Ran
from lorapipe.errors import CheckFailed, ManyErrors

EVENTS: list[Event] = [
    StepStarted("a", "load", 1, 3),
    StepDone("a", "built", 0.5),
    Note("b", "energy", {"x": 0.9}),
    Note("b", "waiting", "for another"),
    StepDone("b", "store", 0.25),
    OutputReady("c", Path("c"), "00", 1, written=True),
    OutputReady("d", Path("d"), "00", 1, written=False),
]


def test_it_hears_what_others_hear() -> None:
    recording, heard = Recording(), list[Event]()
    listen = recording.beside(heard.append)
    for event in EVENTS:
        listen(event)
    assert heard == EVENTS
    assert recording.ran == {"a": Ran("built", 0.5), "b": Ran("store", 0.25)}
    assert recording.written == {"c"}


def test_notes_are_told_by_step_and_fact() -> None:
    recording = Recording()
    for event in EVENTS:
        recording.tell(event)
    assert recording.noted("b", "energy") == {"x": 0.9}
    assert recording.noted("b", "waiting") is None
    assert recording.noted("a", "energy") is None


def test_errors_are_kept_one_by_one() -> None:
    recording, one, two = Recording(), CheckFailed("check-failed", "x"), CheckFailed("check-failed", "y")
    recording.ended(ManyErrors([one, two]))
    assert recording.errors == (one, two)
    recording.ended(one)
    assert recording.errors == (one,)
