"""Sizes, paths and names in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.views.text import bytes_text, json_number, path_text, visible


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_234_567, "1.23 MB"),
        (999_499, "999 kB"),
        (999_999, "1 MB"),
        (6_937_676_352, "6.94 GB"),
        (5 * 10**15, "5,000 TB"),
    ],
)
def test_a_size_has_three_digits_and_a_unit(size: int, text: str) -> None:
    assert bytes_text(size) == text


@given(st.integers(0, 10**17))
def test_a_size_in_words_is_within_half_a_percent_and_never_in_powers(size: int) -> None:
    number, unit = bytes_text(size).split()
    value = float(number.replace(",", "")) * 1000 ** ("B", "kB", "MB", "GB", "TB").index(unit)
    assert "e" not in number
    assert abs(value - size) <= 0.005 * size


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/home/a/loras/x.pt", "loras/x.pt"),
        ("/home/a/..x.pt", "..x.pt"),
        ("/home/b/x.pt", "/home/b/x.pt"),
        ("/home/x.pt", "/home/x.pt"),
    ],
)
def test_a_path_is_relative_inside_a_folder_and_absolute_outside(path: str, text: str) -> None:
    assert path_text(Path(path), Path("/home/a")) == text


@given(st.text())
def test_nothing_that_steers_a_terminal_is_left_in_visible_text(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1


@given(st.text(st.characters(categories=("L", "N", "P", "S"))))
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31m", "a\\x1b[31m"),
        ("a\nb", "a\\nb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("Übergröße 漢字 😀", "Übergröße 漢字 😀"),
    ],
)
def test_control_characters_are_shown_as_python_writes_them(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_json_has_no_word_for_what_is_no_number() -> None:
    numbers = (0.0, -1.5, float("nan"), float("inf"), float("-inf"))
    assert [json_number(number) for number in numbers] == [0.0, -1.5, None, None, None]
