"""The plain part of YAML in which locks are written."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.store.plainyaml import Unfit, dump, load

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(texts, values, max_size=5)


def typed(value: Any) -> Any:
    """In Python 1 == 1.0 == True; here they are three."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return (type(value).__name__, repr(value))


@given(documents)
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_back_with_its_types(document: dict[str, Any]) -> None:
    assert typed(load(dump(document) or "{}")) == typed(document)


@given(st.dictionaries(texts, texts | st.integers(-(2**70), 2**70) | st.booleans(), max_size=5))
@settings(max_examples=100, deadline=None)
def test_other_yaml_readers_read_the_same(document: dict[str, Any]) -> None:
    assert (yaml.safe_load(dump(document)) or {}) == document


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_map_or_unfit(text: str) -> None:
    with suppress(Unfit):
        assert isinstance(load(text), dict)


def test_blocks_lines_and_quotes() -> None:
    assert dump({"a": {"b": 1, "c": "x"}, "no": [1, {"k": None}], "e": {}, "Key": True, "f": 0.5}) == (
        'a:\n  b: 1\n  c: "x"\n"no": [1, {"k": null}]\ne: {}\n"Key": true\nf: 0.5\n'
    )


def test_the_order_given_is_kept_in_blocks() -> None:
    assert dump({"b": 1, "a": 2}) == "b: 1\na: 2\n"


def test_bytes_of_a_name_that_are_no_text_are_replaced() -> None:
    assert load(dump({"path": "caf\udce9"})) == {"path": "caf\ufffd"}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_float_that_is_not_finite_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump({"a": number})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-1", -1), ("1.0", 1.0), ("1e-4", 1e-4), ("true", True), ("null", None), ("", None),
        ("~", None), ("no", "no"), ("012", "012"), ("1:30", "1:30"), ("0x10", "0x10"), ("NaN", "NaN"),
        ("'1'", "1"), ('"1"', "1"), ("2026-01-01", "2026-01-01"), ("1_000", "1_000"), ("[]", []),
        ("word with blanks", "word with blanks"),
    ],
)  # fmt: skip
def test_unquoted_scalars_go_by_json(text: str, value: object) -> None:
    assert typed(load(f"a: {text}\n")) == typed({"a": value})


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "'a' is given twice", 3),
        ("s:\n  x: 1\n  x: 1\n", "'x' is given twice", 3),
        ("a: &x 1\n", "anchors and aliases have no place in it", 1),
        ("a: 1\nb: *x\n", "anchors and aliases have no place in it", 2),
        ("a: !!python/object:os.system x\n", "tags have no place in it", 1),
        ("a: !!str 1\n", "tags have no place in it", 1),
        ("? [a]\n: 1\n", "a key must be a word", 1),
        ("- a\n", "it is not a map", None),
        ("", "it is not a map", None),
        ("a: 1\n---\nb: 1\n", "it holds more than one document", None),
        ("a: [1\n", "did not find expected ',' or ']'", 2),
        ("a: " + "9" * 5000, "a number is too long", 1),
        ("a:\n  b:\n    " + "[" * 40, "it is nested more than 32 deep", 3),
    ],
)
def test_what_is_not_plain_is_refused_with_its_line(text: str, message: str, line: int | None) -> None:
    with pytest.raises(Unfit) as caught:
        load(text)
    assert str(caught.value) == message
    assert caught.value.line == line


@pytest.mark.parametrize("bracket", ["[", "{", "- ", "? "])
def test_two_hundred_thousand_brackets_are_refused_at_once(bracket: str) -> None:
    """libyaml's own composer overruns the stack on these."""
    started = time.monotonic()
    with pytest.raises(Unfit):
        load(bracket * 200_000)
    assert time.monotonic() - started < 5


def test_a_billion_laughs_are_refused() -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 30)]
    with pytest.raises(Unfit, match="aliases"):
        load("\n".join(lines))
