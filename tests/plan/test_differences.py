"""What differs between two steps is said once for each thing, old before new."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.plan.differences import Description, arrow, differences

STEP = Description(
    "merge-into-checkpoint",
    1,
    {"rank": 32, "dynamic": {"sv-ratio": 4.0, "floor": None}, "name": ""},
    {"merge-into-checkpoint": [("base", 1.0)], "loras": [("char", 0.7), ("style", -0.4)]},
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ()),
        ({"kind": "concat", "version": 9, "params": {}}, ("kind merge-into-checkpoint -> concat",)),
        ({"version": 2}, ("version of merge-into-checkpoint 1 -> 2",)),
        ({"params": {**STEP.params, "rank": 16}}, ("rank 32 -> 16",)),
        ({"params": {**STEP.params, "rank": 32.0}}, ("rank 32 -> 32.0",)),
        ({"params": {**STEP.params, "rank": True}}, ("rank 32 -> true",)),
        ({"params": {**STEP.params, "rank": "32"}}, ('rank 32 -> "32"',)),
        ({"params": {**STEP.params, "rank": None}}, ("rank 32 -> null",)),
        ({"params": {**STEP.params, "name": "x"}}, ('name "" -> x',)),
        ({"params": {**STEP.params, "seed": 7}}, ("seed unset -> 7",)),
        ({"params": {"rank": 32, "name": ""}},
         ("dynamic.floor null -> unset", "dynamic.sv-ratio 4.0 -> unset")),
        ({"inputs": {**STEP.inputs, "merge-into-checkpoint": [("other", 1.0)]}},
         ("merge-into-checkpoint base -> other",)),
        ({"inputs": {**STEP.inputs, "loras": [("char", 0.7), ("style", -0.5)]}}, ("style -0.4 -> -0.5",)),
        ({"inputs": {**STEP.inputs, "loras": [("char", 0.7)]}}, ("style -0.4 -> unset",)),
        ({"inputs": {**STEP.inputs, "loras": [("char", 0.7), ("style", -0.4), ("x", 1.0)]}},
         ("x unset -> 1.0",)),
        ({"inputs": {**STEP.inputs, "loras": [("style", -0.4), ("char", 0.7)]}},
         ("order char, style -> style, char",)),
        ({"inputs": {**STEP.inputs, "loras": [("char", 0.7), ("char", -0.4)]}},
         ("loras char 0.7, style -0.4 -> char 0.7, char -0.4",)),
        ({"inputs": {"loras": STEP.inputs["loras"]}}, ("merge-into-checkpoint base -> unset",)),
        ({"sha256": "ab" * 32}, ("sha256 unset -> abababababab...",)),
    ],
)  # fmt: skip
def test_each_change_is_named_with_its_old_and_new_value(
    change: dict[str, Any], words: tuple[str, ...]
) -> None:
    assert differences(STEP, replace(STEP, **change)) == words


def test_all_changes_are_told_at_once() -> None:
    new = replace(STEP, version=2, params={"rank": 8}, inputs={"loras": [("style", 1.0)]}, sha256="0" * 64)
    assert len(differences(STEP, new)) == 9


def test_a_long_value_is_cut() -> None:
    assert arrow("x", "a" * 1000, "b") == f"x {'a' * 60}... -> b"


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
descriptions = st.builds(
    Description,
    st.sampled_from(["scale", "concat"]),
    st.integers(1, 3),
    st.dictionaries(st.sampled_from("abc"), scalars | st.dictionaries(st.sampled_from("xy"), scalars)),
    st.dictionaries(
        st.sampled_from(["p", "q"]),
        st.lists(st.tuples(st.sampled_from(["one", "two"]), st.sampled_from([1.0, -0.5])), max_size=3),
    ),
    st.sampled_from([None, "a" * 64, "b" * 64]),
)


def meaning(of: Description) -> object:
    """All of a description, types told apart, ports that take nothing left out."""
    ports = {port: list(terms) for port, terms in of.inputs.items() if terms}
    return repr((of.kind, of.version, sorted(of.params.items()), sorted(ports.items()), of.sha256))


@given(descriptions, descriptions)
def test_nothing_differs_exactly_where_two_steps_are_the_same(old: Description, new: Description) -> None:
    assert differences(old, old) == ()
    same = meaning(old) == meaning(new) or _sorted_maps(old) == _sorted_maps(new)
    assert (differences(old, new) == ()) == same


def _sorted_maps(of: Description) -> object:
    params = {k: sorted(v.items()) if isinstance(v, dict) else v for k, v in of.params.items()}
    return meaning(replace(of, params=params))  # type: ignore[arg-type]  # for repr alone
