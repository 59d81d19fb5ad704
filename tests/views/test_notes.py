"""Facts of a step's result, in words."""

from __future__ import annotations

import pytest

from lorapipe.build.events import Note
from lorapipe.views.notes import note_lines


@pytest.mark.parametrize(
    ("fact", "value", "lines"),
    [
        ("energy", {"a": 1.0}, ["s: keeps 100.00% of the energy, at worst 100.00% (a)"]),
        ("energy", {}, ["s: energy: {}"]),
        ("error", {"a": 0.02, "b": 0.04}, ["s: misses 3.00% of the norm, at worst 4.00% (b)"]),
        ("left out", {"that rest": 2, "that move": 1}, ["s: left out: 2 that rest, 1 that move"]),
        ("underflow", 0, []),
        ("underflow", 3, ["s: 3 values became zero in the output's dtype"]),
        ("underflow", 1, ["s: 1 value became zero in the output's dtype"]),
        ("other", "x", ["s: other: x"]),
    ],
)
def test_facts_in_words(fact: str, value: object, lines: list[str]) -> None:
    assert note_lines(Note("s", fact, value)) == lines


def test_ranks_that_the_data_chose_are_told_as_a_range() -> None:
    assert note_lines(Note("s", "ranks", {"a": 4, "b": 17, "c": 2})) == ["s: ranks from 2 to 17"]
