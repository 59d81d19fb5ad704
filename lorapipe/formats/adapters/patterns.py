r"""PEFT's patterns: which modules a key of ``rank_pattern`` or ``alpha_pattern`` means.

A key means a module when ``(.*\.)?(<key>)$``, as a regular expression, matches its path; the
first in the config's order decides. (huggingface/peft 0.21.2 ``utils/other.py``,
``get_pattern_key``.) Nearly all keys are paths or ends of paths, which are looked up.

Strangers wrote the expressions, and some expressions take longer than anyone waits. Those
that repeat a group, or have more than a few parts that could match in many ways, are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["Patterns", "path_matches"]

_LITERAL = re.compile(r"(\^?)((?:[\w-]|\\?\.)+)\$?")
_LONGEST = 2000
_MOST = 3
"""Repeats, and groups, of an expression: the time grows with the length of a path to this power."""
_REPEATED_GROUP = re.compile(r"\)[*+?{]")
_REPEAT = re.compile(r"(?<!\\)(?<!\()[*+?{]")
_GROUP = re.compile(r"(?<!\\)\(")


@dataclass(frozen=True, slots=True)
class Patterns:
    r"""Numbers by pattern, in the config's order.

    >>> ranks = Patterns.of({"q_proj": 4.0, r"layers\.[01]\..*": 8.0})
    >>> [ranks.value(path, 2.0) for path in ("layers.1.q_proj", "layers.1.up", "layers.2.up")]
    [4.0, 8.0, 2.0]
    """

    _whole: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    _ends: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    _others: tuple[tuple[int, str, float], ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Patterns:
        """Raises :class:`ValueError` for what is no regular expression, or one that could take too long."""
        whole: dict[str, tuple[int, float]] = {}
        ends: dict[str, tuple[int, float]] = {}
        others = []
        for order, (key, value) in enumerate(values.items()):
            literal = _LITERAL.fullmatch(key)
            if literal is None:
                others.append((order, _checked(key), value))
            else:
                (whole if literal[1] else ends).setdefault(literal[2].replace("\\", ""), (order, value))
        return cls(whole, ends, tuple(others))

    def value(self, path: str, default: float) -> float:
        """What the first pattern that means ``path`` says, else ``default``."""
        found = [self._ends[end] for end in _ends(path) if end in self._ends] if self._ends else []
        if path in self._whole:
            found.append(self._whole[path])
        first = min(found, default=None)
        for order, key, value in self._others:
            if first is not None and first[0] < order:
                break
            if path_matches(key, path):
                return value
        return default if first is None else first[1]


def path_matches(key: str, path: str) -> bool:
    r"""Whether ``(.*\.)?(key)$`` matches ``path``, without trying ``.*`` at each letter."""
    if "^" in key:
        return re.match(rf"(.*\.)?({key})$", path) is not None
    expression = re.compile(key)
    return any(expression.fullmatch(end) for end in _ends(path))


def _ends(path: str) -> Iterator[str]:
    """The path, and what follows each of its dots."""
    while path:
        yield path
        path = path.partition(".")[2]


def _checked(key: str) -> str:
    repeats, groups = len(_REPEAT.findall(key)), len(_GROUP.findall(key))
    if len(key) > _LONGEST or _REPEATED_GROUP.search(key) or max(repeats, groups) > _MOST:
        raise ValueError(f"the pattern {key[:80]!r} could match in too many ways")
    try:
        re.compile(key)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"the pattern {key[:80]!r} is no regular expression: {error}") from None
    return key
