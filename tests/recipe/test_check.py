"""A node against a schema: one finding for each thing refused."""

from __future__ import annotations

from typing import Any

import pytest

from lorapipe.recipe.check import Problem, check, word_value
from lorapipe.recipe.compose import compose
from lorapipe.recipe.nodes import Node, Scalar
from lorapipe.recipe.source import Report, Source, Span

CLOSED = {"type": "object", "properties": {"a": {}}, "additionalProperties": False}


def node_of(text: str) -> Node:
    return compose(Report(Source(text, "r")))


def found(text: str, schema: dict[str, Any]) -> list[tuple[Problem, tuple[object, ...], tuple[str, ...]]]:
    return [(one.problem, one.path, one.names) for one in check(node_of(text), schema)]


@pytest.mark.parametrize(
    ("text", "schema", "findings"),
    [
        ("{a: 1, b: 2, c: 3}", CLOSED, [(Problem.UNKNOWN_KEY, (), ("b",)), (Problem.UNKNOWN_KEY, (), ("c",))]),
        ("{b: 1}", {"required": ["a", "b", "c"]}, [(Problem.MISSING_KEY, (), ("a",)), (Problem.MISSING_KEY, (), ("c",))]),
        ("{}", {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, [(Problem.MISSING_KEY, (), ("a", "b"))]),
        ("{A: 1}", {"propertyNames": {"pattern": "^[a-z]$"}}, [(Problem.BAD_KEY, (), ("A",))]),
        ("{a: {b: [1, x]}}", {"properties": {"a": {"properties": {"b": {"items": {"type": "integer"}}}}}}, [(Problem.BAD_VALUE, ("a", "b", 1), ())]),
        ("{x-a: 1, b: 2}", {"patternProperties": {"^x-": {}}, "additionalProperties": False}, [(Problem.UNKNOWN_KEY, (), ("b",))]),
        ("x", {"type": "string", "pattern": "^y$", "minLength": 3}, [(Problem.BAD_VALUE, (), ())]),
    ],
)  # fmt: skip
def test_each_thing_refused_is_found_once(text: str, schema: dict[str, Any], findings: list[object]) -> None:
    assert found(text, schema) == findings


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan", "1e999", "true", "9" * 350])
def test_a_number_is_finite_and_no_boolean(text: str) -> None:
    assert len(found(text, {"type": "number"})) == 1


def test_the_end_of_a_pattern_is_the_end_of_the_text() -> None:
    assert found('"a\\n"', {"pattern": "^a$"}) == [(Problem.BAD_VALUE, (), ())]


def test_of_a_value_that_is_not_known_nothing_is_said() -> None:
    unknown = Scalar(Span(0, 0, 0, 1), None, "", unknown=True)
    assert list(check(unknown, {"type": "integer"})) == []
    assert len(list(check(unknown, {"type": "object"}))) == 1


@pytest.mark.parametrize(
    ("text", "schema", "message", "hint"),
    [
        ("x", {"type": "integer"}, "a recipe takes a whole number, not 'x'", None),
        ("x", {"type": ["integer", "boolean", "null"]}, "a recipe takes a whole number, true or false or nothing, not 'x'", None),
        ("4", {"type": "string"}, "a recipe takes text, not 4", "quote it: '4'"),
        ("[]", {"minItems": 1}, "a recipe takes at least one, not an empty list", None),
        ("5", {"multipleOf": 2}, "a recipe: 5 is not a multiple of 2, not 5", None),
        ("b", {"const": "a"}, "a recipe takes a, not 'b'", None),
        ("x", {"type": "integer", "patternErrorMessage": "one, please"}, "one, please, not 'x'", None),
    ],
)  # fmt: skip
def test_a_bad_value_is_put_into_words(
    text: str, schema: dict[str, Any], message: str, hint: str | None
) -> None:
    (finding,) = check(node_of(text), schema)
    assert word_value(finding) == (message, finding.node.span, hint)
