"""What differs between two descriptions of a step, in words: ``rank 32 -> 16``.

The lock's refusals and the explanation of a run use the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lorapipe.recipe.model import JSON

__all__ = ["UNSET", "Description", "arrow", "differences", "same"]


class _Unset:
    """No value."""


UNSET = _Unset()
"""What stands for the value of an option that is not there; ``null`` is a value."""

_UNSET_TEXT = "unset"
_LONGEST = 60
_DIGITS = 12

Terms = Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Description:
    """A step as far as it decides its result.

    ``params`` are canonical; ``inputs`` are what each port takes, by a name that people know,
    with its weight, in order; ``sha256`` is that of the file that the step reads.
    """

    kind: str
    version: int
    params: Mapping[str, JSON]
    inputs: Mapping[str, Terms] = field(default_factory=dict)
    sha256: str | None = None


def differences(old: Description, new: Description) -> tuple[str, ...]:
    """Each thing that is another now, in words; none if the two describe one result.

    Numbers of other types differ, as they do in keys: 1 is not 1.0. Of two kinds nothing
    else is compared.

    >>> old = Description("svd-resize", 1, {"rank": 32}, {"svd-resize": [("both", 1.0)]})
    >>> new = Description("svd-resize", 1, {"rank": 16}, {"svd-resize": [("mixed", 1.0)]})
    >>> differences(old, new)
    ('rank 32 -> 16', 'svd-resize both -> mixed')
    """
    if old.kind != new.kind:
        return (arrow("kind", old.kind, new.kind),)
    return tuple(_found(old, new))


def same(one: object, other: object) -> bool:
    """Whether two values are one, types told apart; what no key could hold is a value, too.

    >>> same({"a": 1}, {"a": 1}), same(1, 1.0), same(float("inf"), float("inf"))
    (True, False, True)
    """
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def arrow(what: str, old: object, new: object) -> str:
    """``what old -> new``, long values cut.

    >>> arrow("torch", "2.12.0", "2.13.0")
    'torch 2.12.0 -> 2.13.0'
    """
    return f"{what} {_text(old)} -> {_text(new)}"


def _found(old: Description, new: Description) -> Iterator[str]:
    if old.version != new.version:
        yield arrow(f"version of {new.kind}", old.version, new.version)
    before, after = dict(_flat(old.params)), dict(_flat(new.params))
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name, UNSET), after.get(name, UNSET)
        if was is UNSET or now is UNSET or not same(was, now):
            yield arrow(name, was, now)
    for port in sorted(old.inputs.keys() | new.inputs.keys()):
        yield from _terms(port, old.inputs.get(port, ()), new.inputs.get(port, ()))
    if old.sha256 != new.sha256:
        yield arrow("sha256", _digest(old.sha256), _digest(new.sha256))


def _flat(params: Mapping[str, JSON], above: str = "") -> Iterator[tuple[str, JSON]]:
    """Options with those inside of them: ``dynamic.sv-ratio``."""
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _terms(port: str, old: Terms, new: Terms) -> Iterator[str]:
    if [(name, float(weight)) for name, weight in old] == [(name, float(weight)) for name, weight in new]:
        return
    if _single(old) and _single(new):
        yield arrow(port, _names(old), _names(new))
        return
    before, after = dict(old), dict(new)
    if len(before) < len(old) or len(after) < len(new):  # one LoRA several times: no weight is of one alone
        yield arrow(port, _weighted(old), _weighted(new))
        return
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield arrow(name, before.get(name, UNSET), after.get(name, UNSET))
    if before.keys() == after.keys() and list(before) != list(after):
        yield arrow("order", _names(old), _names(new))


def _single(terms: Terms) -> bool:
    """Whether a port takes one step as it is, or nothing."""
    return not terms or (len(terms) == 1 and terms[0][1] == 1.0)


def _names(terms: Terms) -> object:
    return ", ".join(name for name, _ in terms) if terms else UNSET


def _weighted(terms: Terms) -> object:
    return ", ".join(f"{name} {weight!r}" for name, weight in terms) if terms else UNSET


def _digest(sha256: str | None) -> object:
    return UNSET if sha256 is None else f"{sha256[:_DIGITS]}..."


def _text(value: object) -> str:
    if value is UNSET:
        return _UNSET_TEXT
    plain = isinstance(value, str) and bool(value) and not _reads_otherwise(value)
    text = str(value) if plain else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _reads_otherwise(text: str) -> bool:
    """Whether a text without quotes would be taken for a number or a constant, or for no value."""
    if text == _UNSET_TEXT:
        return True
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
