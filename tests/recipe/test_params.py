"""Params: defaults, ``--set``, Python values."""

from __future__ import annotations

from typing import Any

import pytest

from lorapipe.errors import ManyErrors, UsageError
from lorapipe.recipe.params import Setting, parse_setting
from lorapipe.recipe.parsing import parse

from .complaints import complaints

RECIPE = """\
lorapipe: 1
params: {s: text, w: 0.5, n: 4, t: true, due: ~}
steps: {a: {load: x}}
"""


def in_force(name: str, value: Any) -> Any:
    return parse(RECIPE, "r.yaml", {"due": 1, name: value}).params[name]


def test_defaults_hold_where_nothing_is_given() -> None:
    assert parse(RECIPE, "r.yaml", {"due": "x"}).params == {
        "s": "text",
        "w": 0.5,
        "n": 4,
        "t": True,
        "due": "x",
    }


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("w=0.6", 0.6),
        ("w=1", 1),
        ("w=1e-4", 1e-4),
        ("w=-0.0", 0.0),
        ("n=8", 8),
        ("n=1e3", 1000.0),
        ("n= 8 ", 8),
        ("t=false", False),
        ("s=4", "4"),
        ("s=no", "no"),
        ("s=a=b", "a=b"),
        ("s=", ""),
        ("s='4'", "4"),
        ('s="a b"', "a b"),
        ("due=4", 4),
        ("due=0.5", 0.5),
        ("due=x", "x"),
        ("due=true", True),
        ("due='4'", "4"),
    ],
)
def test_a_setting_is_a_yaml_1_2_scalar_of_the_defaults_type(setting: str, value: object) -> None:
    name, given = parse_setting(setting)
    got = in_force(name, given)
    assert got == value
    assert type(got) is type(value)
    assert str(got) == str(value)  # tells 0.0 from -0.0


@pytest.mark.parametrize("value", [3, 0.25, -1.0])
def test_a_python_number_goes_where_a_number_is_due(value: float) -> None:
    assert in_force("w", value) == value


def test_a_python_value_is_never_parsed() -> None:
    assert in_force("s", "012") == "012"
    assert in_force("due", "no") == "no"


def test_none_is_as_if_nothing_were_given() -> None:
    assert in_force("w", None) == 0.5


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"w": Setting("x")}, "error: param 'w' takes a number, not 'x' - its default is 0.5"),
        ({"w": Setting("")}, "error: param 'w' takes a value, not nothing"),
        ({"w": Setting("true")}, "error: param 'w' takes a number, not true - its default is 0.5"),
        ({"w": Setting(".nan")}, "error: param 'w' takes a value, not .nan"),
        ({"w": Setting("012")}, "error: --set w: 012 begins with 0 - write 12 for the number, '012' for the text"),
        ({"w": Setting("'")}, "error: --set w: this quote is never closed"),
        ({"w": Setting("'a': 1")}, "error: --set w takes one value, not a map"),
        ({"n": Setting("0.5")}, "error: param 'n' takes a whole number, not 0.5 - its default is 4: write 4.0 in the recipe to allow any number"),
        ({"n": 0.5}, "error: param 'n' takes a whole number, not 0.5 - its default is 4: write 4.0 in the recipe to allow any number"),
        ({"n": True}, "error: param 'n' takes a whole number, not true - its default is 4"),
        ({"t": Setting("1")}, "error: param 't' takes true or false, not 1 - its default is true"),
        ({"s": 4}, "error: param 's' takes text, not 4 - its default is 'text'"),
        ({"w": float("inf")}, "error: param 'w' takes a value, not inf"),
        ({"w": [1]}, "error: param 'w' takes a number, text, true or false, not list"),
        ({"strength": 1}, "r.yaml: error: no param 'strength' - the recipe has s, w, n, t, due"),
        ({"dew": 1}, "r.yaml: error: no param 'dew' - did you mean 'due'?"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_a_usage_error(params: dict[str, Any], error: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(RECIPE, "r.yaml", {"due": 1, **params})
    assert str(caught.value) == error


def test_a_param_without_default_must_be_given() -> None:
    with pytest.raises(UsageError) as caught:
        parse(RECIPE, "r.yaml")
    assert (
        str(caught.value)
        == "r.yaml:2:47: error: param 'due' needs a value - it has no default: --set due=VALUE"
    )
    assert caught.value.exit_status == 2


def test_what_uses_a_missing_value_is_not_blamed_for_it() -> None:
    text = RECIPE + "  # more\n"
    text = text.replace("{load: x}}", "{load: x}, r: {svd-resize: a, rank: $(due)}, z: {scale: a, by: x}}")
    assert complaints(text) == [
        "r.yaml:2:47: error: param 'due' needs a value - it has no default: --set due=VALUE",
        "r.yaml:3:75: error: 'by' takes a number, or $(name), not 'x'",
    ]


def test_a_value_that_is_missing_where_no_value_fits_is_wrong_all_the_same() -> None:
    text = RECIPE.replace("{load: x}}", "{load: x}, z: {scale: a, components: $(due)}}")
    assert complaints(text) == [
        "r.yaml:2:47: error: param 'due' needs a value - it has no default: --set due=VALUE",
        "r.yaml:3:49: error: 'components' takes a map, not '$(due)'",
    ]


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ("[a]", "r.yaml:2:9: error: 'params' takes a map, not a list"),
        ("{a: [1]}", "r.yaml:2:13: error: 'a' takes a number, text, true or false or nothing, not a list"),
        ("{a: .inf}", "r.yaml:2:13: error: 'a' takes a number, text, true or false or nothing, not .inf"),
        ("{A: 1}", "r.yaml:2:10: error: 'A' cannot be a param's name - a param's name is made of a-z, 0-9, - and _, and begins with a letter"),
        ("{a: $(b)}", "r.yaml:2:13: error: param 'a' holds $( - a param's value is taken as it is; steps combine several: $(a)-$(b)"),
        ("{a: 1, a: 2}", "r.yaml:2:16: error: 'a' is given twice - first at line 2"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_refused_in_place(params: str, error: str) -> None:
    assert complaints(
        f"lorapipe: 1\nparams: {params}\nsteps: {{x: {{load: $(a)}}}}\n".replace("$(a)", "y")
    ) == [error]


@pytest.mark.parametrize("argument", ["", "strength", "=1", " =1"])
def test_a_setting_needs_a_name_and_an_equals_sign(argument: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_setting(argument)
    assert str(caught.value) == f"error: --set takes name=value, not '{argument}'"


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(ManyErrors) as caught:
        parse(RECIPE, "r.yaml", {"due": 1, "w": "x", "n": "y", "zz": 1})
    assert len(caught.value.errors) == 3
    assert caught.value.exit_status == 2
