"""Did you mean: the nearest of the words that would have been right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType

__all__ = ["did_you_mean", "nearest"]

_NO_WORDS: Mapping[str, str] = MappingProxyType({})
_LIKE = 0.6
_MUCH_LIKE = 0.8  # another's word for it is only meant when it is nearly written
_LONGEST = 80  # no option and no id is longer; a page of text is no misspelling


def nearest(word: str, choices: Iterable[str], also: Mapping[str, str] = _NO_WORDS) -> str | None:
    """The choice that ``word`` was probably meant to be.

    ``also`` maps words that people use instead to the word meant
    (``x-also-known-as``); those that mean none of the choices are left out.
    Exactly such a word wins over a mere likeness, a likeness to a choice over one
    to such a word. Case, ``_`` and ``-`` do not count.

    >>> nearest("rnak", ["rank", "seed"]), nearest("float16", ["fp16"], {"float16": "fp16"})
    ('rank', 'fp16')
    >>> nearest("zzz", ["rank"]) is None
    True
    """
    if len(word) > _LONGEST:
        return None
    known = {_plain(choice): choice for choice in choices}
    meant = {_plain(alias): name for alias, name in also.items() if name in known.values()}
    word = _plain(word)
    for table in (known, meant):
        if word in table:
            return table[word]
    for table, likeness in ((known, _LIKE), (meant, _MUCH_LIKE)):
        close = get_close_matches(word, table, n=1, cutoff=likeness)
        if close:
            return table[close[0]]
    return None


def did_you_mean(word: str, choices: Iterable[str], also: Mapping[str, str] = _NO_WORDS) -> str | None:
    """The hint ``did you mean 'rank'?``, or None."""
    name = nearest(word, choices, also)
    return None if name is None else f"did you mean '{name}'?"


def _plain(word: str) -> str:
    return word.lower().replace("_", "-")
