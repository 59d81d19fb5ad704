"""Two texts are one recipe, or the first node that differs is named."""

from __future__ import annotations

import pytest

from lorapipe.recipe.formatting.meaning import first_difference
from lorapipe.recipe.parsing import read


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a: x", "{'a': \"x\"}"),
        ("steps: {a: {load: x, as: lora}}", "steps:\n  a:\n    as: lora\n    load: x\n"),
        ("a: [1, 2]", "a:\n- 1\n- 2\n"),
        ("a: .nan", "a:    .nan"),
    ],
)
def test_equal(one: str, other: str) -> None:
    assert first_difference(read(one).root, read(other).root) is None


@pytest.mark.parametrize(
    ("one", "other", "column"),
    [
        ("a: 1", "a: 1.0", 3),
        ("a: 0.7", "a: 0.70", 3),
        ("a: true", "a: 'true'", 3),
        ("a: 1", "a: true", 3),
        ("a: {b: 1, c: 2}", "a: {c: 2, b: 1}", 3),
        ("a: [1, 2]", "a: [1, 3]", 7),
        ("a: [1, 2]", "a: [1]", 3),
        ("a: [1]", "a: {b: 1}", 3),
        ("steps: {a: {concat: {b: 1, c: 2}}}", "steps: {a: {concat: {c: 2, b: 1}}}", 20),
        ("steps: {a: {load: x}}", "steps: {a: {load: y}}", 18),
    ],
)
def test_different(one: str, other: str, column: int) -> None:
    found = first_difference(read(one).root, read(other).root)
    assert found is not None
    assert found.span.column == column
