"""YAML 1.2's core scalars, which PyYAML (1.1) reads otherwise.

===========  ===========  ==============
text         YAML 1.1     here
===========  ===========  ==============
``1e-4``     text         0.0001
``no``       false        text
``012``      10           refused
``1:30``     90           text
``1_000``    1000         text
===========  ===========  ==============
"""

from __future__ import annotations

import re

__all__ = ["ScalarTrouble", "bare", "resolve"]

_NULL = frozenset(["", "~", "null", "Null", "NULL"])
_TRUE = frozenset(["true", "True", "TRUE"])
_FALSE = frozenset(["false", "False", "FALSE"])
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_OTHER_BASE = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]")
# What needs no quotes anywhere in flow style; spaces inside are fine, `: ` and ` #` are not in it.
_PLAIN = re.compile(r"[\w./$()][\w./$()+-]*(?: [\w./$()+-]+)*\Z", re.ASCII)
_MOST_DIGITS = 400  # no float64 and no count needs more; int() refuses beyond 4300


class ScalarTrouble(ValueError):
    """A plain scalar that the recipe language refuses: a message and a remedy."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def resolve(text: str) -> bool | int | float | str | None:
    """The value of a plain (unquoted) scalar.

    Raises :class:`ScalarTrouble` for a number with leading zeros, which YAML 1.1
    reads as octal and others as decimal, and for one of absurd length.

    >>> resolve("1e-4"), resolve("no"), resolve("1:30"), resolve("0x10")
    (0.0001, 'no', '1:30', 16)
    """
    if text in _NULL:
        return None
    if text[0] not in "0123456789.-+tTfF":
        return text
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _SPECIAL.match(text):
        return float(text.replace(".", "").lower())
    if _OTHER_BASE.match(text) or _FLOAT.match(text):
        return _number(text)
    return text


def bare(text: str) -> bool:
    """Whether a text needs no quotes, wherever it stands.

    >>> bare("loras/char v2.safetensors"), bare("no"), bare("1.0"), bare("a: b")
    (True, True, False, False)
    """
    if not _PLAIN.match(text) or text.startswith("- "):
        return False
    try:
        return resolve(text) == text
    except ScalarTrouble:
        return False


def _number(text: str) -> int | float:
    if len(text) > _MOST_DIGITS:
        raise ScalarTrouble(f"{text[:20]}… is a number of {len(text)} characters", "quote it if it is text")
    if _OTHER_BASE.match(text):
        return int(text, 0)
    if _LEADING_ZERO.match(text):
        digits = text.lstrip("-+").lstrip("0")
        bare = text[: -len(text.lstrip("-+"))] + (digits if digits[:1].isdigit() else "0" + digits)
        raise ScalarTrouble(f"{text} begins with 0", f"write {bare} for the number, '{text}' for the text")
    return int(text) if _INTEGER.match(text) else float(text)
