"""Params: their defaults in the recipe, and the values given for one run."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lorapipe.errors import LorapipeError, UsageError
from lorapipe.recipe.compose import compose
from lorapipe.recipe.holes import UNKNOWN, Value, holes_in
from lorapipe.recipe.nodes import MapNode, Node, Scalar, show
from lorapipe.recipe.scalars import ScalarTrouble, resolve
from lorapipe.recipe.source import Report, Source
from lorapipe.recipe.suggest import did_you_mean

__all__ = ["Given", "Setting", "parse_setting", "values_in_force"]


@dataclass(frozen=True, slots=True)
class Setting:
    """The right-hand side of ``--set name=value``: text until its param's type is known."""

    text: str


Given = Setting | None | bool | int | float | str
"""A value for a param: from the command line, or a Python value."""


def parse_setting(argument: str) -> tuple[str, Setting]:
    """``--set``'s argument as a name and a setting.

    >>> parse_setting("strength=0.6")
    ('strength', Setting(text='0.6'))
    """
    name, equals, text = argument.partition("=")
    if not equals or not name.strip():
        raise UsageError("bad-setting", f"--set takes name=value, not '{argument}'")
    return name.strip(), Setting(text)


def values_in_force(
    params: Node | None, axes: Collection[str], given: Mapping[str, Given], report: Report
) -> dict[str, Value]:
    """The value of each param: as given, else its default; one without either is unknown.

    Noted in ``report``: names given that the recipe does not have, values of another
    type than the default's, params that are due and not given.
    """
    declared = {entry.name: entry for entry in params.entries} if isinstance(params, MapNode) else {}
    for name in given:
        if name not in declared:
            hint = did_you_mean(name, declared) or "the recipe has " + (", ".join(declared) or "no params")
            message, where = f"no param '{name}'", report.source.file
            if name in axes:
                message, hint = (
                    f"'{name}' is an axis, no param",
                    f"--only {name}=VALUE takes the variants with it",
                )
            report.add_error(UsageError("unknown-param", message, hint=hint, where=where))
    values = {}
    for name, entry in declared.items():
        default = entry.value
        if not isinstance(default, Scalar) or default.unknown:
            values[name] = UNKNOWN  # the schema's check has said what is wrong
        elif given.get(name) is not None:
            values[name] = _given_value(name, given[name], default, report)
        else:
            values[name] = _default_value(name, default, report)
    return values


def _default_value(name: str, default: Scalar, report: Report) -> Value:
    if default.value is None:
        place = report.source.place(default.span)
        hint = f"it has no default: --set {name}=VALUE"
        report.add_error(UsageError("param-due", f"param '{name}' needs a value", hint=hint, where=place))
        return UNKNOWN
    if isinstance(default.value, str) and holes_in(default.value):
        hint = "a param's value is taken as it is; steps combine several: $(a)-$(b)"
        report.add("hole-in-param", f"param '{name}' holds $(", default.span, hint)
        return UNKNOWN
    return Value(_canonical(default.value), default.text)


def _given_value(name: str, given: Given, default: Scalar, report: Report) -> Value:
    try:
        value = _read(name, given, default.value) if isinstance(given, Setting) else _python(name, given)
        _check_type(name, value, default)
    except LorapipeError as error:
        report.add_error(error)
        return UNKNOWN
    return value


def _read(name: str, setting: Setting, default: object) -> Value:
    """The text of ``--set`` as a YAML 1.2 scalar; as text where the default is text."""
    text = setting.text.strip()
    if text[:1] in ("'", '"'):
        return _quoted(name, text)
    if isinstance(default, str):
        return Value(setting.text, setting.text)
    try:
        return Value(_canonical(resolve(text)), text)
    except ScalarTrouble as trouble:
        raise UsageError("bad-setting", f"--set {name}: {trouble.message}", hint=trouble.hint) from None


def _quoted(name: str, text: str) -> Value:
    """A setting that YAML quotes mark as text."""
    try:
        node = compose(Report(Source(text, "--set")))
    except LorapipeError as error:
        raise UsageError("bad-setting", f"--set {name}: {error.message}", hint=error.hint) from None
    if not isinstance(node, Scalar):
        raise UsageError("bad-setting", f"--set {name} takes one value, not {show(node)}")
    return Value(node.value, node.text)


def _python(name: str, given: object) -> Value:
    if isinstance(given, bool):
        return Value(given, str(given).lower())
    if isinstance(given, (int, float)):
        return Value(_canonical(given), repr(given))
    if isinstance(given, str):
        return Value(given, given)
    raise UsageError(
        "bad-param", f"param '{name}' takes a number, text, true or false, not {type(given).__name__}"
    )


def _check_type(name: str, value: Value, default: Scalar) -> None:
    """The type of the default, where it has one: a whole number is a number, too."""
    wanted, got = _type(default.value), _type(value.value)
    if got == "nothing" or (isinstance(value.value, float) and not math.isfinite(value.value)):
        raise UsageError("bad-param", f"param '{name}' takes a value, not {value.text or 'nothing'}")
    if wanted in ("nothing", got) or (wanted == "a number" and got == "a whole number"):
        return
    if wanted == "a whole number" and isinstance(value.value, float) and value.value.is_integer():
        return
    hint = f"its default is {show(default)}"
    if (wanted, got) == ("a whole number", "a number"):
        hint += f": write {default.text}.0 in the recipe to allow any number"
    raise UsageError("bad-param", f"param '{name}' takes {wanted}, not {value.shown}", hint=hint)


def _type(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int):
        return "a whole number"
    return "a number" if isinstance(value, float) else "text"


def _canonical(value: bool | int | float | str | None) -> bool | int | float | str | None:
    return value + 0.0 if isinstance(value, float) else value  # -0.0 becomes 0.0
