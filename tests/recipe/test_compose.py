"""YAML text to nodes: what is refused, where, and how fast."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.recipe.compose import MAX_BYTES, MAX_DEPTH, MAX_NODES, compose
from lorapipe.recipe.nodes import ListNode, MapNode, Node, Scalar, to_json
from lorapipe.recipe.source import Report, Source

from .complaints import errors_of


@pytest.fixture(params=["libyaml", "python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each promise holds with libyaml and without."""
    if request.param == "python":
        monkeypatch.delattr(yaml, "cyaml")
    return str(request.param)


def composed(text: str) -> Node:
    report = Report(Source(text, "r"))
    node = compose(report)
    report.raise_errors()
    return node


def refused(text: str) -> list[str]:
    return errors_of(lambda: composed(text))


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("", ["r:1:1: error: the recipe is empty - begin with 'lorapipe: 1' and 'steps:'"]),
        ("\n# nothing\n", ["r:1:1: error: the recipe is empty - begin with 'lorapipe: 1' and 'steps:'"]),
        ("a: 1\n---\nb: 2\n", ["r:2:1: error: a second document begins here - give each recipe its own file"]),
        ("a: 1\nb: 2\na: 3\n", ["r:3:1: error: 'a' is given twice - first at line 1"]),
        (
            "a: 1\na: 2\na: 3\n",
            [
                "r:2:1: error: 'a' is given twice - first at line 1",
                "r:3:1: error: 'a' is given twice - first at line 1",
            ],
        ),
        ("{a: &x {b: 1}, c: {<<: *x}}", ["r:1:20: error: a recipe has no merge keys (<<) - write the keys out"]),
        ("a: !!python/name:os.system x", ["r:1:4: error: a recipe has no tags (!) - delete it, and quote a value that begins with !"]),
        ("a: !b c", ["r:1:4: error: a recipe has no tags (!) - delete it, and quote a value that begins with !"]),
        ("? [a, b]\n: c\n", ["r:1:3: error: a key is text - quote it if it holds [ ] { or }"]),
        ("a: 012", ["r:1:4: error: 012 begins with 0 - write 12 for the number, '012' for the text"]),
        ("a: *b", ["r:1:4: error: no anchor &b before here - quote it if it is text: '*b'"]),
        ("a: &b [*b]", ["r:1:8: error: the alias *b stands inside what it names"]),
        ("{a:0.7, b: 1}", ["r:1:2: error: 'a:0.7' needs a space after the colon"]),
        ("[a:b, {c:012}]", ["r:1:8: error: 'c:012' needs a space after the colon"]),
        ('a: "b\\0"', ["r:1:4: error: the character U+0000 is no text - delete its escape"]),
        ("a: \x00", ["r:1:4: error: the character U+0000 is no text - delete it"]),
        ("a: 1\nb: x\x1b[31m", ["r:2:5: error: the character U+001B is no text - delete it"]),
        ("a: \ud800", ["r:1:4: error: the character U+D800 is no text - delete it"]),
        ("x: " + "[" * 30, [f"r:1:{MAX_DEPTH + 4}: error: nested deeper than {MAX_DEPTH} levels"]),
        (
            "a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> other\n",
            ["r:2:1: error: git left a conflict here - keep one side and delete the marker lines"],
        ),
    ],
)  # fmt: skip
def test_what_the_language_does_not_have_is_refused_in_place(text: str, errors: list[str]) -> None:
    assert refused(text) == errors


def test_errors_that_leave_the_rest_readable_come_together() -> None:
    text = "a: !x 1\nb: 012\nc: *d\ne: {f:1}\ne: 2\n"
    assert [line.split(":")[1] for line in refused(text)] == ["1", "2", "3", "4", "5"]


def test_what_stands_before_a_fatal_error_is_reported_with_it() -> None:
    assert refused("a: 012\nb: [1, 2\n") == [
        "r:1:4: error: 012 begins with 0 - write 12 for the number, '012' for the text",
        "r:2:4: error: this [ is never closed",
    ]


def test_a_key_without_its_space_is_read_as_it_was_meant() -> None:
    report = Report(Source("{a:0.7, b:x}", "r"))
    assert to_json(compose(report)) == {"a": 0.7, "b": "x"}
    assert len(report.errors) == 2


def test_a_colon_inside_a_key_that_has_a_value_is_no_mistake() -> None:
    assert to_json(composed("{http://x: 1, 'a:b': 2}")) == {"http://x": 1, "a:b": 2}


def test_quotes_make_text_of_anything() -> None:
    assert to_json(composed("""['012', "no", '', '*x', '<<', "a\\tb"]""")) == [
        "012",
        "no",
        "",
        "*x",
        "<<",
        "a\tb",
    ]


def test_anchors_stand_for_what_they_name() -> None:
    assert to_json(composed("{a: &x [1, b], c: *x, d: [*x]}")) == {
        "a": [1, "b"],
        "c": [1, "b"],
        "d": [[1, "b"]],
    }


def test_every_node_knows_its_span() -> None:
    root = composed("a: 'x y'\nb:\n  - [1, {c: d}]\n")
    assert isinstance(root, MapNode)
    source = Source("a: 'x y'\nb:\n  - [1, {c: d}]\n", "r")
    text = {
        place.text[place.column - 1 : place.column - 1 + place.width]
        for place in map(source.place, spans(root))
        if place.text is not None
    }
    assert {"a", "'x y'", "b", "[1, {c: d}]", "1", "{c: d}", "c", "d"} <= text


def spans(node: Node) -> Iterator[object]:
    yield node.span
    if isinstance(node, ListNode):
        for item in node.items:
            yield from spans(item)
    if isinstance(node, MapNode):
        for entry in node.entries:
            yield entry.key.span
            yield from spans(entry.value)


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

HOSTILE = {
    "billion laughs": (LAUGHS, f"a recipe has at most {MAX_NODES} values, aliases counted in full"),
    "a scalar of 10 MB": ("a: " + "x" * 10_000_000, f"a recipe has at most {MAX_BYTES} bytes"),
    "wide text of 2 MB": ("a: " + "\u00e9" * 1_000_000, f"a recipe has at most {MAX_BYTES} bytes"),
    "a million brackets": ("[" * 1_000_000, f"nested deeper than {MAX_DEPTH} levels"),
    "a million braces": ("{" * 1_000_000, f"nested deeper than {MAX_DEPTH} levels"),
    "half a million dashes": ("- " * 500_000, f"nested deeper than {MAX_DEPTH} levels"),
    "an endless list": ("[" + "a," * 100_000 + "]", f"a recipe has at most {MAX_NODES} values"),
    "an alias in a circle of two": ("a: &a {b: &b [*a]}", "the alias *a stands inside what it names"),
    "all duplicates": ("{" + "a: 1," * 40_000 + "}", "more than 500 errors"),
    "all tags": ("[" + "!x a," * 40_000 + "]", "more than 500 errors"),
    "a million digits": ("a: " + "1" * 1_000_000, "is a number of 1000000 characters"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_at_once(name: str, parser: str) -> None:
    text, message = HOSTILE[name]
    begin = time.process_time()
    errors = refused(text)
    spent = time.process_time() - begin
    assert message in errors[-1]
    assert errors[-1].startswith("r:")
    # PyYAML's own scanner needs some 20 microseconds a character; wheels have libyaml.
    assert spent < (1.0 if parser == "libyaml" else 30.0)


words = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(json_values)
def test_json_is_a_recipe_text_that_means_itself(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    node = composed(text)
    assert to_json(node) == value


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab:,-[]{}#&*!|>'\"%@`?<~ \n\t0179.", max_size=40))
def test_any_text_is_composed_or_refused_with_a_place(text: str) -> None:
    for error in refused(text):
        assert error.startswith("r:"), error


def test_a_scalar_says_whether_it_is_quoted() -> None:
    root = composed("[a, 'a', \"a\"]")
    assert isinstance(root, ListNode)
    assert [isinstance(item, Scalar) and item.plain for item in root.items] == [True, False, False]
