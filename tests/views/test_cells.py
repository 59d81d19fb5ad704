"""Cells of a terminal: bars, names and lines in just as many as there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from lorapipe.views.cells import bar, cell, fitted, glyphs, packed, written

UTF8, ASCII = glyphs("utf-8"), glyphs("ascii")
TEXTS = st.sampled_from(["", "a", "abc def", "漢字" * 9, "e\u0301" * 9, "👩‍👩‍👧" * 3, "x" * 60, "\x1b[2J\n"])


@pytest.mark.parametrize("encoding", ["latin-1", "cp437", "no-such-encoding"])
def test_where_an_encoding_lacks_a_sign_all_are_ascii(encoding: str) -> None:
    signs = glyphs(encoding)
    assert "".join((signs.done, signs.failed, signs.at_work, signs.full, signs.empty, signs.cut)).isascii()


def test_a_bar_is_full_only_of_what_is_whole() -> None:
    assert bar(0.0, 15, UTF8).plain == "──────────   0%"
    assert bar(0.999, 15, UTF8).plain == "━━━━━━━━━─  99%"
    assert bar(1.0, 15, ASCII).plain == "########## 100%"
    assert bar(0.5, 8, UTF8).plain == " 50%"  # a shorter one shows nothing


@given(st.floats(0, 1), st.integers(0, 60))
def test_a_bar_is_as_wide_as_it_may_be(part: float, width: int) -> None:
    assert cell_len(bar(part, width, UTF8).plain) in (4, width)


@given(TEXTS, st.integers(2, 40), st.sampled_from([UTF8, ASCII]))
def test_a_name_takes_just_its_cells(text: str, width: int, signs: object) -> None:
    shown = cell(text, width, signs)  # type: ignore[arg-type]
    assert cell_len(shown) == width
    assert shown.isprintable()


@given(TEXTS, st.integers(1, 40))
def test_a_line_never_ends_beyond_the_terminal_or_in_a_space(text: str, width: int) -> None:
    line = fitted(Text(written(text, UTF8)), width, UTF8)
    assert cell_len(line.plain) <= max(1, width)
    assert line.plain == line.plain.rstrip()


def test_facts_stand_on_as_few_lines_as_hold_them_and_none_is_parted() -> None:
    assert list(packed(["one", "two", "three"], 9)) == ["one, two", "three"]
    assert list(packed(["a fact that is long", "b"], 5)) == ["a fact that is long", "b"]
    assert list(packed([], 5)) == []
