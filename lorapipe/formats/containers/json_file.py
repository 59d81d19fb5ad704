"""Small JSON files beside weights: an index, a config; read with suspicion, since strangers wrote them."""

from __future__ import annotations

import json

from lorapipe.formats.containers.opened import open_file
from lorapipe.remote.url import Location

__all__ = ["MOST_VALUES", "object_of", "read_object"]

MOST_VALUES = 2_000_000
"""Commas and brackets of JSON that is parsed: three bytes of it can become a hundred and fifty of objects."""

_AGAIN = "copy or download it again"


def read_object(path: Location, limit: int, sort: str) -> dict[str, object]:
    """The JSON object that a file holds; ``sort`` begins the codes of errors, ``limit`` is in bytes.

    Raises :class:`~lorapipe.errors.InputError` ``<sort>-too-large``, ``<sort>-not-json`` (also
    for a key that stands twice), and what :class:`~lorapipe.formats.containers.opened.open_file` raises.
    """
    with open_file(path) as file:
        if file.size > limit:
            raise file.error(
                f"{sort}-too-large",
                f"{path.name} has {file.size} bytes: more than any {sort} takes",
                "is it the right file?",
            )
        raw = bytes(file.read(0, file.size))
        try:
            return object_of(raw)
        except ValueError as error:
            raise file.error(f"{sort}-not-json", f"{path.name} is {error}", _AGAIN) from None


def object_of(raw: bytes) -> dict[str, object]:
    """The JSON object that bytes hold; ``ValueError`` says what they are instead."""
    if sum(map(raw.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise ValueError(f"not one to read: it has more than {MOST_VALUES} values")
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"not JSON: {reason}") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:80]!r} stands twice")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
