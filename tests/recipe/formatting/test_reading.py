"""What cannot be kept in place is refused where it stands."""

from __future__ import annotations

import pytest

from lorapipe.errors import Place, RecipeError
from lorapipe.recipe.formatting import format_text
from lorapipe.recipe.formatting.reading import read_tree
from lorapipe.recipe.source import Source


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("? a\n: b\n", 1, 3, "a key behind '?' cannot be kept"),
        ("a: {? b : c}\n", 1, 7, "a key behind '?' cannot be kept"),
        ("a: &k x\n*k : b\n", 2, 1, "an alias cannot be kept as a key"),
        ("a: {b: # why\n  c}\n", 1, 8, "a comment between a key and its value cannot be kept"),
        ("a: &k # why\n  {b: 1}\n", 1, 7, "a comment between a key and its value cannot be kept"),
        ("a: {b: 1 # one\n  , # two\n  c: 2}\n", 2, 5, "this comment cannot be kept here"),
        ("--- # what\na: b\n", 1, 5, "this comment cannot be kept here"),
        ("%YAML 1.1\n---\na: b\n", 1, 1, "a line that begins with % cannot be kept"),
        ("a: x\u2028 y\n", 1, 4, "this cannot be kept as it is"),
        ("a: |\n  no line feed", 1, 4, "this cannot be kept as it is"),
    ],
)
def test_what_is_refused(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        format_text(text)
    assert caught.value.code == "not-formattable"
    assert caught.value.message == message
    assert caught.value.hint is not None
    assert isinstance(caught.value.where, Place)
    assert (caught.value.where.line, caught.value.where.column) == (line, column)


def test_a_hash_in_a_scalar_is_no_comment() -> None:
    tree = read_tree(
        Source("a: x#y # one\nb: '# no'\nc: |\n  # no\n  # no\n# two\nd: {e: \"#\"} # three\n", "r")
    )
    assert [comment.text for comment in tree.comments()] == ["# one", "# two", "# three"] or sorted(
        comment.text for comment in tree.comments()
    ) == ["# one", "# three", "# two"]


def test_lines_end_as_yaml_ends_them() -> None:
    tree = read_tree(Source("a: 1 # one\rb: 2 # two\x85# three\u2028c: 3\r\n", "r"))
    assert sorted(comment.text for comment in tree.comments()) == ["# one", "# three", "# two"]
