"""The plain part of YAML in which locks are written: maps, lists, JSON's scalars.

Read with suspicion, since locks come with strangers' repositories: from the parser's
events, so that depth is bounded before anything recurses (libyaml's composer overruns the
stack on 200,000 brackets), without aliases and tags, and with each key once (a merge that
kept both sides gives a key twice, and a YAML loader would silently take the second).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

__all__ = ["Unfit", "dump", "load"]

_DEEPEST = 32

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_CONSTANTS = {"null": None, "~": None, "": None, "true": True, "false": False}

_PLAIN_KEY = re.compile(r"[a-z][a-z0-9_-]*")
# YAML 1.1 readers take these for something other than text.
_AMBIGUOUS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
# Fine in JSON text; YAML readers refuse or fold them unless escaped.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
# Neither of the two can say these; they stand for bytes of a file name that are not text.
_SURROGATE = re.compile("[\ud800-\udfff]")


class Unfit(ValueError):  # never seen by a user, who gets a LockError
    """The text is not in this part of YAML; ``line`` counts from 1, or is None."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def dump(value: Mapping[str, Any], indent: str = "") -> str:
    """Maps as blocks, one key a line, in the order given; lists in JSON's form.

    Parts of a text that are not Unicode are replaced by U+FFFD. Raises ``ValueError``
    for a float that is not finite. ``load(dump(value)) == value``, types too, unless the map is empty.
    """
    lines = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            lines.append(f"{indent}{_key(key)}:\n{dump(item, indent + '  ')}")
        else:
            lines.append(f"{indent}{_key(key)}: {'{}' if item == {} else _json(item)}\n")
    return "".join(lines)


def load(text: str) -> dict[str, Any]:
    """The map that the text holds. Raises :class:`Unfit`."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = _document(iter(yaml.parse(text, Loader=loader)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise Unfit(problem, None if mark is None else mark.line + 1) from error
    if not isinstance(found, dict):
        raise Unfit("it is not a map")
    return found


def _document(events: Iterator[Any]) -> Any:
    documents = [_node(event, events, 0) for event in events if isinstance(event, yaml.NodeEvent)]
    if len(documents) > 1:
        raise Unfit("it holds more than one document")
    return documents[0] if documents else None


def _node(event: Any, events: Iterator[Any], depth: int) -> Any:
    """The value that begins with ``event``; takes its other events from ``events``."""
    line = _line(event)
    if event.anchor is not None:
        raise Unfit("anchors and aliases have no place in it", line)
    if event.tag is not None:
        raise Unfit("tags have no place in it", line)
    if depth > _DEEPEST:
        raise Unfit(f"it is nested more than {_DEEPEST} deep", line)
    if isinstance(event, yaml.ScalarEvent):
        return event.value if event.style else _plain(event.value, line)
    if isinstance(event, yaml.SequenceStartEvent):
        return [_node(item, events, depth + 1) for item in _until(yaml.SequenceEndEvent, events)]
    found: dict[str, Any] = {}
    for key in _until(yaml.MappingEndEvent, events):
        if not isinstance(key, yaml.ScalarEvent):
            raise Unfit("a key must be a word", _line(key))
        if key.value in found:
            raise Unfit(f"'{key.value}' is given twice", _line(key))
        found[key.value] = _node(next(events), events, depth + 1)
    return found


def _until(end: type, events: Iterator[Any]) -> Iterator[Any]:
    for event in events:
        if isinstance(event, end):
            return
        yield event


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _plain(text: str, line: int) -> Any:
    """An unquoted scalar, by JSON's rules: what is no number and no constant is text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _NUMBER.fullmatch(text) is None:
        return text
    try:
        return json.loads(text)
    except ValueError as error:  # Python reads no number of more than 4300 digits
        raise Unfit("a number is too long", line) from error


def _key(text: str) -> str:
    if _PLAIN_KEY.fullmatch(text) is not None and text not in _AMBIGUOUS:
        return text
    return _json(text)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)
    text = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
