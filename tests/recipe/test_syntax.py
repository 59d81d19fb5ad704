"""What is said of text that is no YAML: the same with libyaml and without."""

from __future__ import annotations

import pytest
import yaml

from .complaints import complaints

SPLIT = "quote a value that holds , [ ] { } or #"
INDENT = "indent it like its neighbours"


@pytest.fixture(params=["libyaml", "python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "python":
        monkeypatch.delattr(yaml, "cyaml")
    return str(request.param)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        # A path that flow style splits.
        ("a: {b: c[1].s}\n", f"1:9: error: expected , or }} here - {SPLIT}"),
        ("a: {b: c{1}.s}\n", f"1:9: error: expected , or }} here - {SPLIT}"),
        ("a: [b{1}.s]\n", f"1:6: error: expected , or ] here - {SPLIT}"),
        ("a: {b: c]}\n", f"1:9: error: expected , or }} here - {SPLIT}"),
        ("a: {b: 'c'd}\n", f"1:11: error: expected , or }} here - {SPLIT}"),
        ("a: {b: c}d.s}\n", "1:10: error: a value has ended before this - quote the whole value"),
        ("a: {b: c #1.s}\nd: e\n", "1:10: error: ' #' begins a comment - quote a value that holds it"),
        ("a: [b, c #1]\n", "1:10: error: ' #' begins a comment - quote a value that holds it"),
        # Brackets and quotes left open.
        ("a: {b: c\nd: e\n", "2:2: error: expected , or } here - the { of line 1 is still open"),
        ("a: {b: c  # d\n", "1:4: error: this { is never closed"),
        ("a: [1, 2\n", "1:4: error: this [ is never closed"),
        ("a: 'x\n", "1:4: error: this quote is never closed"),
        ('a: 1\nb: "x\ny\n', "2:4: error: this quote is never closed"),
        ("{a: b}}\n", "1:7: error: a value has ended before this - quote the whole value"),
        ("a: 'b' c\n", "1:8: error: a value has ended before this - quote the whole value"),
        # Values that begin with what YAML keeps for itself.
        ("a: @x\n", "1:4: error: a value cannot begin with @ - quote it"),
        ("a: `x`\n", "1:4: error: a value cannot begin with ` - quote it"),
        ("a: %x\n", "1:4: error: a value cannot begin with % - quote it"),
        ("a: {b: *.s}\n", "1:8: error: a value cannot begin with * - quote it"),
        ("a: {b: &.s}\n", "1:8: error: a value cannot begin with & - quote it"),
        ("a: }\n", "1:4: error: a value cannot begin with } - quote it"),
        ("a: ,\n", "1:4: error: a value cannot begin with , - quote it"),
        ("a: > x\n b\n", "1:6: error: text after | or > begins on its own line - quote a value that begins with | or >"),
        ("a: !<x y>\n", "1:4: error: a recipe has no tags (!) - quote a value that begins with !"),
        # Colons.
        ("a: b: c\n", "1:5: error: a second ': ' in one line - quote a value that holds ': '"),
        ("a: 1\nb:2\n", "2:1: error: 'b:2' needs a space after the colon"),
        ("a:\n  b:1\n  c: 2\n", "2:3: error: 'b:1' needs a space after the colon"),
        ("a:\n  b:1\n\n  c: 2\n", "2:3: error: 'b:1' needs a space after the colon"),
        ("a:\n  b: 1\n  c\n", "3:3: error: a key needs a colon and a value"),
        # Indentation.
        ("\ta: b\n", "1:1: error: a tab cannot indent - use spaces"),
        ("a:\n\tb: c\n", "2:1: error: a tab cannot indent - use spaces"),
        ("a:\n  b: c\n\td: e\n", "3:1: error: a tab cannot indent - use spaces"),
        ("a: b\n c: d\n", f"2:2: error: a key cannot stand here - {INDENT}"),
        ("  a: 1\n b: 2\n", f"2:2: error: the indentation of this line fits none above - {INDENT}"),
        ("a:\n   b: 1\n  c: 2\n", f"3:3: error: the indentation of this line fits none above - {INDENT}"),
        ("- a\nb: c\n", f"2:1: error: the indentation of this line fits none above - {INDENT}"),
        ("a: -\n  b: c\n", "1:4: error: a list cannot begin here - give each '- ' its own line, or write [a, b]"),
        # Directives.
        ("%YAML 2.0\n---\na: b\n", "1:1: error: a recipe has no % directives - delete the line"),
    ],
)  # fmt: skip
def test_a_syntax_error_is_said_in_the_words_of_recipes(text: str, error: str) -> None:
    assert complaints(text) == [f"r.yaml:{error}"]


@pytest.mark.parametrize("text", ['a: "C:\\models"\n', 'a: "\\xZZ"\n'])
def test_a_path_in_double_quotes_is_told_of_single_ones(text: str) -> None:
    (error,) = complaints(text)
    assert error.startswith("r.yaml:1:")  # the two scanners differ in the column
    assert error.endswith("error: double quotes know no such escape - single quotes take \\ as it is")


@pytest.mark.parametrize("text", ["[", "{a: [", "a: 1\nb: ["])
def test_text_that_ends_too_early_says_so(text: str) -> None:
    (error,) = complaints(text)
    assert error.endswith(": error: a value is missing here")
