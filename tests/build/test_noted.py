"""What steps note, in figures: the same whatever is noted, and nothing made of what is no number."""

from __future__ import annotations

import json
import math

import pytest

from lorapipe.build.events import Event, Note, StepDone
from lorapipe.build.noted import figures_told, noting


@pytest.mark.parametrize(
    ("notes", "figures"),
    [
        ({"energy": {"x": 0.5, "y": 1.0}}, {"energy kept": 0.75, "least kept": 0.5}),
        ({"error": {"x": 0.25, "y": 0.75}}, {"norm missed": 0.5, "most missed": 0.75}),
        ({"ranks": {"x": 2, "y": 4}, "lowest score kept": -1.5}, {"mean rank": 3.0, "lowest score": -1.5}),
        (
            {
                "holds": {
                    "rank": {"min": {"value": 2, "of": "x"}, "max": {"value": 8, "of": "y"}},
                    "modules": 4,
                }
            },
            {"least rank": 2.0, "largest rank": 8.0, "modules": 4.0},
        ),
        ({"measured": {"energy": {"min": {"value": None, "of": "x"}, "total": -math.inf}}}, {}),
        ({"energy": {}}, {}),
        ({"energy": "much", "holds": [1], "ranks": {"x": None}, "lowest score kept": "low"}, {}),
        ({"holds": {"finite": True, "differs-from": "x", "norm": {"min": 3, "max": {"value": True}}}}, {}),
        ({"underflow": 3, "waiting": "another process is at work on it"}, {}),
    ],
    ids=json.dumps,
)
def test_what_is_noted_becomes_these_figures(notes: dict[str, object], figures: dict[str, float]) -> None:
    assert {quantity.name: number for quantity, number in figures_told(notes)} == figures


def test_what_is_told_is_kept_and_told_on() -> None:
    heard: list[Event] = []
    notes: dict[str, dict[str, object]] = {}
    tell = noting(heard.append, notes)
    events = [Note("a", "energy", {"x": 1.0}), StepDone("a", "built", 1.0), Note("a", "ranks", {"x": 2})]
    for event in events:
        tell(event)
    assert heard == events
    assert notes == {"a": {"energy": {"x": 1.0}, "ranks": {"x": 2}}}
