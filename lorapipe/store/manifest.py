"""The manifest of a result: a small JSON text that leads from a key to a blob."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lorapipe.store.digest import is_sha256
from lorapipe.store.paths import StorePaths
from lorapipe.store.reading import read_whole

__all__ = ["Entry", "parse_manifest", "read_manifest", "to_json"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A result in the store: ``path`` is its blob, ``preimage`` what ``key`` was made of.

    ``notes`` are facts about the result that its bytes do not hold, JSON by name. They
    belong to the key: two ways to one blob can differ in what was lost on the way. ``lineage``
    tells all steps that led to the result (:class:`~lorapipe.store.journal.Making`). ``of`` is the
    key that this one is an alias of.
    """

    key: str
    path: Path
    sha256: str
    size: int
    preimage: str
    notes: Mapping[str, object] = field(default_factory=dict, hash=False)
    lineage: str = ""
    of: str | None = None


def read_manifest(paths: StorePaths, key: str) -> Entry | None:
    """What the manifest of ``key`` says, or None if it is not there or is not one.

    Raises ``ValueError`` for what is no key.
    """
    path = paths.manifest(key)
    try:
        text = read_whole(path)
    except OSError:
        return None
    return parse_manifest(text, paths, key)


def parse_manifest(text: bytes, paths: StorePaths, key: str) -> Entry | None:
    """What the text says, if it is a manifest of ``key``; the blob is where ``paths`` has it."""
    try:
        found = json.loads(text)
        sha256, size, preimage = found["sha256"], found["size"], found["preimage"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    sound = found.get("version") == 1 and found.get("key") == key and is_sha256(sha256)
    if not sound or type(size) is not int or not isinstance(preimage, str):
        return None
    notes, lineage, of = found.get("notes"), found.get("lineage"), found.get("of")
    return Entry(
        key,
        paths.blob(sha256),
        sha256,
        size,
        preimage,
        notes if isinstance(notes, dict) else {},
        lineage if isinstance(lineage, str) else "",
        of if is_sha256(of) else None,
    )


def to_json(entry: Entry) -> bytes:
    """The manifest's text, from which :func:`read_manifest` makes an equal entry."""
    manifest: dict[str, object] = {
        "version": 1,
        "key": entry.key,
        "sha256": entry.sha256,
        "size": entry.size,
        "preimage": entry.preimage,
    }
    known = {"notes": dict(entry.notes), "lineage": entry.lineage, "of": entry.of}
    manifest |= {name: value for name, value in known.items() if value}
    return (json.dumps(manifest, indent=1) + "\n").encode("ascii")
