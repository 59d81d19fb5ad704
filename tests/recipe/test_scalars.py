"""YAML 1.2's core scalars."""

from __future__ import annotations

import json
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.recipe.scalars import ScalarTrouble, resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("NULL", None),
        ("nUll", "nUll"),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("0x10", 16),
        ("0o17", 15),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        ("4.", 4.0),
        (".5", 0.5),
        ("-.5e+2", -50.0),
        ("0.5", 0.5),
        ("1e", "1e"),
        (".", "."),
        ("-", "-"),
        ("+-1", "+-1"),
        ("1.2.3", "1.2.3"),
        ("0x", "0x"),
        ("-0x10", "-0x10"),
        ("012abc", "012abc"),
        ("\u0661", "\u0661"),
        ("1 ", "1 "),
        ("1\n", "1\n"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("inf", "inf"),
    ],
)
def test_a_plain_scalar_is_what_yaml_1_2_says(text: str, value: object) -> None:
    resolved = resolve(text)
    assert resolved == value
    assert type(resolved) is type(value)


def test_nan_is_a_number_of_yaml() -> None:
    resolved = resolve(".nan")
    assert isinstance(resolved, float)
    assert math.isnan(resolved)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("012", "write 12 for the number, '012' for the text"),
        ("-012", "write -12 for the number, '-012' for the text"),
        ("00", "write 0 for the number, '00' for the text"),
        ("00.5", "write 0.5 for the number, '00.5' for the text"),
        ("007e2", "write 7e2 for the number, '007e2' for the text"),
    ],
)
def test_leading_zeros_are_refused_with_both_ways_out(text: str, hint: str) -> None:
    with pytest.raises(ScalarTrouble) as caught:
        resolve(text)
    assert (caught.value.message, caught.value.hint) == (f"{text} begins with 0", hint)


@pytest.mark.parametrize("text", ["9" * 5000, "0x" + "f" * 5000, "1." + "0" * 5000])
def test_a_number_of_absurd_length_is_refused_before_python_counts_its_digits(text: str) -> None:
    with pytest.raises(ScalarTrouble, match=f"{text[:20]}… is a number of {len(text)} characters"):
        resolve(text)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()))
def test_every_scalar_of_json_means_the_same_here(value: object) -> None:
    resolved = resolve(json.dumps(value))
    assert resolved == value
    assert type(resolved) is type(value)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789abcdefxo+-.eE_:~", max_size=8))
def test_where_pyyaml_reads_a_float_it_is_the_same_number(text: str) -> None:
    """YAML 1.1's floats with a point are floats of 1.2, base 60 and underscores apart."""
    resolver = yaml.resolver.Resolver()
    is_float = resolver.resolve(yaml.ScalarNode, text, (True, False)) == "tag:yaml.org,2002:float"
    if not is_float or "_" in text or ":" in text or "n" in text:
        return
    try:
        resolved = resolve(text)
    except ScalarTrouble:
        return
    assert resolved == float(text)
