"""Comments and the ends of block scalars, by their places in the text."""

from __future__ import annotations

import pytest

from lorapipe.recipe.compose import events
from lorapipe.recipe.formatting.marks import Marks
from lorapipe.recipe.source import Source


def marks(text: str) -> Marks:
    parser = events(text)
    found = []
    while parser.check_event():
        found.append(parser.get_event())
    return Marks(Source(text, "r"), found)


def test_a_comment_knows_where_it_stands() -> None:
    first, second, third = marks("a: 1  # one \n\n   # two\n# three\n").comments
    assert (first.text, first.line, first.column, first.own, first.blank) == ("# one", 0, 6, False, False)
    assert (second.text, second.line, second.column, second.own, second.blank) == ("# two", 2, 3, True, True)
    assert (third.text, third.own, third.blank) == ("# three", True, False)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: |\n  x\n\n\nb: 1\n", 2),
        ("a: |+\n  x\n\n\nb: 1\n", 4),
        ("a: >-\n  x\n\n  y\n# c\nb: 1\n", 4),
        ("a: &k |\n  x\n", 2),
        ("a: |\n  x", 2),
        ("a: |\nb: 1\n", 1),
    ],
)
def test_empty_lines_below_a_block_scalar_are_its_own_only_if_it_keeps_them(text: str, line: int) -> None:
    (end,) = marks(text).blocks.values()
    assert end == line


def test_the_first_character_that_says_something() -> None:
    found = marks("# c\n\n&anchor\n- x\n")
    assert found.skip(0) == 13
    assert found.skip(5, comments=False) == 13
    assert found.skip(0, comments=False) == 0
