"""Nodes: values that know where they stand."""

from __future__ import annotations

import pytest

from lorapipe.recipe.compose import compose
from lorapipe.recipe.nodes import MapNode, Node, show, to_json
from lorapipe.recipe.source import Report, Source


def node_of(text: str) -> Node:
    return compose(Report(Source(text, "r")))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("four", "'four'"),
        ("'4'", "'4'"),
        ("1e3", "1e3"),
        ("True", "True"),
        ("~", "~"),
        ("''", "''"),
        ("[]", "an empty list"),
        ("[1]", "a list"),
        ("{}", "an empty map"),
        ("{a: 1}", "a map"),
        ("x" * 61, "'" + "x" * 59 + "…'"),
    ],
)
def test_a_value_is_shown_as_it_was_written(text: str, shown: str) -> None:
    assert show(node_of(text)) == shown


def test_an_empty_value_is_shown_as_nothing() -> None:
    root = node_of("a:\n")
    assert isinstance(root, MapNode)
    assert show(root.entries[0].value) == "nothing"


def test_a_document_as_json_has_keys_of_text() -> None:
    assert to_json(node_of("{1: [a, 2, 3.5], no: {t: true, n: ~}}")) == {
        "1": ["a", 2, 3.5],
        "no": {"t": True, "n": None},
    }


def test_get_finds_a_value_by_its_key_or_nothing() -> None:
    root = node_of("{a: 1, b: 2}")
    assert isinstance(root, MapNode)
    found = root.get("b")
    assert found is not None
    assert to_json(found) == 2
    assert root.get("c") is None
