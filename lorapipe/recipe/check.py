"""A node against a schema: what is wrong with it, and where.

jsonschema does the checking; here its errors become findings that name keys and
nodes, so that the wording does not depend on how a schema is composed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from lorapipe.recipe.language import choices
from lorapipe.recipe.nodes import ListNode, MapNode, Node, Scalar, show, to_json
from lorapipe.recipe.schemas import Schema
from lorapipe.recipe.source import MAX_ERRORS, Span
from lorapipe.recipe.suggest import did_you_mean

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

__all__ = ["Finding", "Problem", "Wording", "check", "word_value"]


class Problem(Enum):
    """What may be wrong."""

    UNKNOWN_KEY = "unknown-key"
    MISSING_KEY = "missing-key"
    BAD_KEY = "bad-key"
    BAD_VALUE = "bad-value"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a schema refuses.

    ``path`` leads to ``node``: for a problem with keys, to the map that has or lacks
    them. ``names`` are the keys; of several missing ones, one is enough. ``schema`` is the
    fragment that refuses, ``keyword`` the part of it, ``detail`` jsonschema's words.
    """

    problem: Problem
    path: tuple[str | int, ...]
    node: Node
    schema: Schema
    keyword: str
    names: tuple[str, ...] = ()
    detail: str = ""


_ASCENDING = "x-ascending"

Wording = tuple[str, Span, str | None]
"""A message, where it belongs, and a hint."""


def check(node: Node, schema: Schema) -> Iterator[Finding]:
    """Everything that ``schema`` refuses in ``node``, once; no more than a report takes.

    Holes are filled and the schema is closed (:func:`~.language.closed`). Of a
    scalar whose value is not known nothing is said that depends on the value.
    """
    # Each of them is an error, if not always here: with so many there is no recipe.
    return islice(_all_findings(node, schema), MAX_ERRORS + 1)


def _all_findings(node: Node, schema: Schema) -> Iterator[Finding]:
    seen = set()
    for error in _validator()(schema).iter_errors(to_json(node)):
        for finding in _findings(error, node):
            unknown = isinstance(finding.node, Scalar) and finding.node.unknown and _takes_scalar(finding)
            mark = (finding.problem, finding.path, finding.names)
            if not unknown and mark not in seen:
                seen.add(mark)
                yield finding


def word_value(finding: Finding) -> Wording:
    """A bad value in words: what the key takes, and what stands there instead.

    The first half is the text that editors show, too (``patternErrorMessage``).
    """
    node = finding.node
    if finding.keyword == _ASCENDING:
        return f"'{finding.path[-1]}' leaves nothing: {finding.detail}", node.span, "exchange them"
    takes = finding.schema.get("patternErrorMessage") or _takes(finding)
    if not isinstance(node, Scalar):
        return f"{takes}, not {show(node)}", node.span, None
    if node.inserted and not node.unknown:
        hole = node.inserted[0]
        whole = len(node.inserted) == 1 and hole.shown in (show(node), node.text)
        values = ", ".join(f"$({one.name}) is {one.shown}" for one in node.inserted)
        return (takes if whole else f"{takes}, not {show(node)}"), hole.span, values
    return f"{takes}, not {show(node)}", node.span, _value_hint(node, finding.schema)


def _takes_scalar(finding: Finding) -> bool:
    types = finding.schema.get("type", "string")
    return not set([types] if isinstance(types, str) else types) <= {"array", "object"}


def _value_hint(node: Scalar, schema: Schema) -> str | None:
    if isinstance(node.value, str):
        return did_you_mean(node.value, choices(schema), schema.get("x-also-known-as", {}))
    if schema.get("type") == "string" and not node.empty:
        return f"quote it: '{node.text}'"
    return None


def _takes(finding: Finding) -> str:
    """What a value must be, for a fragment without words of its own."""
    key = next((part for part in reversed(finding.path) if isinstance(part, str)), "a recipe")
    name = f"'{key}'" if finding.path else key
    if finding.keyword in ("minItems", "minProperties"):
        return f"{name} takes at least one"
    if finding.keyword == "minLength":
        return f"{name} takes text"
    if finding.keyword == "const":
        return f"{name} takes {finding.schema['const']}"
    if finding.keyword != "type":
        return f"{name}: {finding.detail}"
    types = finding.schema["type"]
    words = [_TYPES[one] for one in (types if isinstance(types, list) else [types])]
    return f"{name} takes " + ", ".join(words[:-1]) + (" or " if words[1:] else "") + words[-1]


_TYPES: Mapping[str, str] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
    "array": "a list",
    "object": "a map",
}


def _findings(error: ValidationError, root: Node) -> Iterator[Finding]:
    path = tuple(error.absolute_path)
    node = _node_at(root, path)
    keyword: str = str(error.validator)
    schema: Any = error.schema
    value: Any = error.validator_value
    instance: Any = error.instance
    if "propertyNames" in error.absolute_schema_path:
        yield Finding(Problem.BAD_KEY, path, node, schema, keyword, (str(instance),))
    elif keyword == "additionalProperties":
        for name in instance:
            if name not in schema.get("properties", {}) and not _matches(name, schema):
                yield Finding(Problem.UNKNOWN_KEY, path, node, schema, keyword, (name,))
    elif keyword == "required":
        for name in value:
            if name not in instance:
                yield Finding(Problem.MISSING_KEY, path, node, schema, keyword, (name,))
    elif keyword == "anyOf" and all(set(one) == {"required"} for one in value):
        names = tuple(name for one in value for name in one["required"])
        yield Finding(Problem.MISSING_KEY, path, node, schema, keyword, names)
    else:
        yield Finding(Problem.BAD_VALUE, path, node, schema, keyword, detail=error.message)


def _matches(name: str, schema: Schema) -> bool:
    return any(re.search(pattern, name) for pattern in schema.get("patternProperties", {}))


def _node_at(node: Node, path: tuple[str | int, ...]) -> Node:
    for part in path:
        if isinstance(node, ListNode):
            node = node.items[int(part)]
        elif isinstance(node, MapNode):
            node = next(entry.value for entry in node.entries if entry.name == part)
    return node


@cache  # jsonschema is loaded by the first recipe that is checked, not by --help
def _validator() -> Any:
    """Draft 7 as editors check it, where Python and JavaScript differ.

    Numbers are finite; ``$`` does not match before a newline at the end. A keyword of our own,
    ``x-ascending``, names two keys of which the first is not above the second.
    """
    from jsonschema import Draft7Validator, validators

    types = Draft7Validator.TYPE_CHECKER.redefine("number", lambda _, value: _is_finite(value))
    extend: Any = validators.extend
    keywords = {"pattern": _pattern, _ASCENDING: _ascending}
    return extend(Draft7Validator, keywords, type_checker=types)


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False


@cache  # a handful of patterns, each asked for every value
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\$\Z", r"\\Z", pattern))


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Schema) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, str) and not _compiled(pattern).search(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _ascending(
    _validator: Any, keys: tuple[str, str], instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    limits: list[Any] = [instance.get(key) if isinstance(instance, dict) else None for key in keys]
    low, high = limits
    if _is_finite(low) and _is_finite(high) and low > high:
        yield ValidationError(f"{keys[0]} {low:g} is above {keys[1]} {high:g}")
