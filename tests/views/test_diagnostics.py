"""Errors as text: the headline, the line at fault, the caret."""

# ruff: noqa: E501 - an error is compared whole, one case a line

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.errors import InputError, LorapipeError, ManyErrors, Place, RecipeError
from lorapipe.views.diagnostics import diagnostic


def error_at(text: str, column: int, width: int = 1, line: int = 9) -> LorapipeError:
    place = Place(file="char.yaml", line=line, column=column, width=width, text=text)
    return RecipeError("code", "wrong", hint="mend it", where=place)


def test_an_error_in_a_recipe_shows_its_line_and_a_caret_under_the_span() -> None:
    place = Place(file="char.yaml", line=9, column=30, width=4, text="  small: {svd-resize: mixed, rnak: 8}")
    error = RecipeError(
        "unknown-option", "svd-resize has no option 'rnak'", hint="did you mean 'rank'?", where=place
    )
    assert diagnostic(error) == (
        "char.yaml:9:30: error: svd-resize has no option 'rnak' - did you mean 'rank'?\n"
        "     9 |   small: {svd-resize: mixed, rnak: 8}\n"
        "       |                              ^^^^"
    )


def test_an_error_without_a_hint_is_told_with_the_remedy_of_its_code() -> None:
    assert diagnostic(InputError("input-missing", "no such file", where="a")) == (
        "a: error: no such file - check the path"
    )
    assert diagnostic(InputError("input-missing", "no such file", hint="mend it")) == (
        "error: no such file - mend it"
    )
    assert diagnostic(InputError("no-such-code", "wrong")) == "error: wrong"


def test_many_errors_follow_one_another() -> None:
    both = ManyErrors([error_at("ab", 1, line=1), error_at("ab", 2, line=100)])
    assert diagnostic(both) == (
        "char.yaml:1:1: error: wrong - mend it\n"
        "     1 | ab\n"
        "       | ^\n"
        "char.yaml:100:2: error: wrong - mend it\n"
        "   100 | ab\n"
        "       |  ^"
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InputError("c", "truncated", where="a.safetensors"), "a.safetensors: error: truncated"),
        (InputError("c", "truncated"), "error: truncated"),
        (InputError("c", "rank 4", hint="mend", step="char", module="lora_unet_x"), "step 'char': error: lora_unet_x: rank 4 - mend"),
        (RecipeError("c", "bad", where=Place(file="r", line=1, column=1), step="char"), "r:1:1: error: bad"),
        (RecipeError("c", "bad", where=Place(file="r", line=9, column=1, text="")), "r:9:1: error: bad"),
    ],
)  # fmt: skip
def test_an_error_without_a_line_is_a_headline(error: LorapipeError, text: str) -> None:
    assert diagnostic(error) == text


def test_names_cannot_steer_the_terminal() -> None:
    place = Place(file="a\x1b[2J.yaml", line=1, column=3, width=2, text="\tx\x9b31m\u202e")
    error = RecipeError("c", "no '\x07'", hint="not\n'\u200b'", where=place, module="m\r")
    assert diagnostic(error) == (
        "a\\x1b[2J.yaml:1:3: error: m\\r: no '\\x07' - not\\n'\\u200b'\n"
        "     1 | \\tx\\x9b31m\\u202e\n"
        "       |    ^^^^^"
    )


def test_wide_characters_take_two_columns_and_marks_none() -> None:
    lines = diagnostic(error_at("字e\u0301x", 4, 1)).splitlines()
    assert lines[2] == "       | " + " " * 3 + "^"


def test_a_caret_under_a_wide_character_is_as_wide() -> None:
    assert diagnostic(error_at("a字", 2, 1)).endswith("|  ^^")


def test_a_span_behind_the_end_of_its_line_has_one_caret_there() -> None:
    assert diagnostic(error_at("abc", 9, 4)).endswith("     9 | abc\n       |    ^")


def test_a_long_line_is_cut_around_the_caret() -> None:
    text = "x" * 500 + "HERE" + "y" * 500
    lines = diagnostic(error_at(text, 501, 4)).splitlines()
    shown = lines[1].split("| ")[1]
    assert len(shown) == 100
    assert shown[0] == shown[-1] == "…"
    assert lines[1][lines[2].index("^") : lines[2].rindex("^") + 1] == "HERE"


@pytest.mark.parametrize("column", [1, 500, 1000])
def test_a_long_line_is_cut_only_where_something_is_left_out(column: int) -> None:
    lines = diagnostic(error_at("x" * 1000, column)).splitlines()
    shown = lines[1].split("| ")[1]
    assert shown.startswith("…") == (column > 1)
    assert shown.endswith("…") == (column < 1000)


def test_a_span_longer_than_the_line_shown_is_cut_too() -> None:
    lines = diagnostic(error_at("x" * 1000, 1, 1000)).splitlines()
    assert len(lines[1]) <= 6 + 3 + 100
    assert set(lines[2].split("| ")[1]) == {"^"}


def test_colour_is_only_there_when_asked_for_and_changes_no_text() -> None:
    error = error_at("abc", 2)
    coloured = diagnostic(error, colour=True)
    assert "\x1b[" in coloured
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == diagnostic(error)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300), st.integers(1, 310), st.integers(1, 310))
def test_any_place_in_any_text_is_drawn_in_three_printable_lines(text: str, column: int, width: int) -> None:
    drawn = diagnostic(error_at(text, column, width))
    assert drawn.replace("\n", "").isprintable()
    assert len(drawn.split("\n")) == (3 if text else 1)
    if text:
        # An accent that combines with the letter before it takes no column.
        assert sum(not unicodedata.combining(char) for char in drawn.split("\n")[1]) <= 120


def test_the_file_at_fault_is_named_as_it_is_read_from_the_users_folder(tmp_path: Path) -> None:
    inside = InputError("code", "wrong", where=str(tmp_path / "sub" / "r.lock"))
    assert diagnostic(inside, folder=tmp_path) == "sub/r.lock: error: wrong"
    assert diagnostic(ManyErrors([inside, inside]), folder=tmp_path).count("sub/r.lock") == 2
    assert diagnostic(inside, folder=tmp_path / "other") == f"{tmp_path}/sub/r.lock: error: wrong"
    assert diagnostic(InputError("code", "wrong", where="r.lock"), folder=tmp_path) == "r.lock: error: wrong"


def variants(count: int, place: Place, step: str = "good") -> list[LorapipeError]:
    return [
        RecipeError("no-such-code", f"{step} {rank} is wrong", where=place, step=f"{step}[rank={rank}]")
        for rank in range(count)
    ]


def test_what_many_variants_have_at_one_place_is_told_thrice_and_counted() -> None:
    here, there = Place(file="r.yaml", line=3, column=1), Place(file="r.yaml", line=4, column=1)
    other = RecipeError("code", "something else", where=there)
    lines = diagnostic(ManyErrors([*variants(24, here), other, *variants(3, there)])).splitlines()
    assert lines == [
        "r.yaml:3:1: error: good 0 is wrong",
        "r.yaml:3:1: error: good 1 is wrong",
        "r.yaml:3:1: error: good 2 is wrong",
        "and 21 more like this, of other variants of 'good'",
        "r.yaml:4:1: error: something else",
        "r.yaml:4:1: error: good 0 is wrong",
        "r.yaml:4:1: error: good 1 is wrong",
        "r.yaml:4:1: error: good 2 is wrong",
    ]


def test_errors_of_no_variant_and_four_of_variants_are_all_told() -> None:
    place = Place(file="r.yaml", line=3, column=1)
    alone = [RecipeError("code", f"wrong {n}", where=place, step="s") for n in range(9)]
    assert len(diagnostic(ManyErrors(alone)).splitlines()) == 9
    assert len(diagnostic(ManyErrors(variants(4, place))).splitlines()) == 4
    both = diagnostic(ManyErrors([*variants(5, place), *variants(5, place, "other")])).splitlines()
    assert [line for line in both if line.startswith("and")] == [
        "and 2 more like this, of other variants of 'good'",
        "and 2 more like this, of other variants of 'other'",
    ]
