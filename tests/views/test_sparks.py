"""Bars of text: as high as the numbers, whatever the terminal has."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from lorapipe.views.sparks import columns, spark

VALUES = st.lists(st.floats(0.0, 1e300), min_size=1, max_size=40)


@given(VALUES)
def test_a_larger_number_never_has_a_smaller_bar(values: list[float]) -> None:
    bars = spark(values)
    marks = " ▁▂▃▄▅▆▇█"
    for (value, bar), (other, its) in zip(
        sorted(zip(values, bars, strict=True)), sorted(zip(values, bars, strict=True))[1:], strict=False
    ):
        assert marks.index(bar) <= marks.index(its), (value, other)
    assert all((bar == " ") == (value == 0.0) for value, bar in zip(values, bars, strict=True))
    assert max(values) == 0.0 or "█" in bars


@given(st.lists(st.floats(0.0, 1.0), max_size=40), st.integers(1, 9))
def test_a_column_is_as_high_as_its_number_in_eighths_of_a_line(values: list[float], height: int) -> None:
    lines = list(columns(values, height))
    assert len(lines) == height
    for place, value in enumerate(values):
        eighths = sum(" ▁▂▃▄▅▆▇█".index(line[place]) for line in lines)
        assert eighths == round(8 * height * value)


def test_what_is_no_number_is_marked_and_spoils_no_other() -> None:
    assert spark([math.nan, 1.0, math.inf]) == "!█!"
    assert spark([math.nan]) == "!"


def test_nothing_and_zeros_are_empty() -> None:
    assert spark([]) == ""
    assert spark([0.0, 0.0]) == "  "


def test_ascii_is_ascii_and_as_long() -> None:
    assert spark([0.0, 0.5, 1.0], ascii_only=True) == " =@"
    assert all(line.isascii() for line in columns([0.3, 1.0], 4, ascii_only=True))
