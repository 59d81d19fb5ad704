"""The store on a terminal and as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

from rich.console import Console
from rich.text import Text

from lorapipe.build.shared_upkeep import Moved, SharedContents
from lorapipe.build.upkeep import Contents, Freed, Pinned, kind_of
from lorapipe.store.eviction import Kept
from lorapipe.store.shared.upkeep import SharedFreed
from lorapipe.store.tidying import Leftovers
from lorapipe.store.verification import Verified
from lorapipe.views.tables import headed_table, print_table
from lorapipe.views.text import bytes_text, visible

__all__ = [
    "age_text",
    "contents_json",
    "print_contents",
    "print_freed",
    "print_moved",
    "print_pinned",
    "print_shared_freed",
    "print_verified",
    "verified_json",
]


def print_contents(
    found: Contents, shared: SharedContents | None = None, console: Console | None = None
) -> None:
    """Print a row a result, a line with the store's size, and one on the ``shared`` store."""
    console = console or Console(highlight=False)
    if found.results:
        rows = headed_table("key", "kind", "size", "used", "")
        for kept in found.results:
            pinned = Text("pinned" if kept.pinned else "", style="cyan")
            rows.add_row(*map(Text, _row(kept)), pinned)
        print_table(rows, console)
        console.print()
    count = _count(len(found.results), "result")
    total = f"{count}, {bytes_text(found.size)} of at most {bytes_text(found.budget)}, in {found.root}"
    console.print(Text(visible(total)), soft_wrap=True)
    if shared is not None:
        console.print(Text(visible(_shared(shared))), soft_wrap=True)


def _shared(found: SharedContents) -> str:
    if found.holdings is None:
        return f"shared: {found.url} cannot be asked: {found.reason}"
    count = _count(found.holdings.results, "result")
    return f"shared: {count}, {bytes_text(found.holdings.size)}, in {found.url}"


def _row(kept: Kept) -> tuple[str, str, str, str]:
    kind = visible(kind_of(kept) or "unknown")
    return kept.key[:12], kind, bytes_text(kept.size), age_text(time.time_ns() - kept.used_ns)


def age_text(ns: int) -> str:
    """How long ago something was, in one unit.

    >>> age_text(59 * 10**9), age_text(3600 * 10**9), age_text(90 * 86400 * 10**9)
    ('just now', '1 hour ago', '90 days ago')
    """
    seconds = ns // 10**9
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return f"{_count(seconds // size, unit)} ago"
    return "just now"


def contents_json(found: Contents, shared: SharedContents | None = None) -> dict[str, Any]:
    """The store as a JSON-ready dict; sizes in bytes, times in UTC."""
    return {
        "version": 1,
        "path": str(found.root),
        "size": found.size,
        "max_size": found.budget,
        "results": [_json(kept) for kept in found.results],
        "shared": None if shared is None else _shared_json(shared),
    }


def _shared_json(found: SharedContents) -> dict[str, Any]:
    if found.holdings is None:
        return {"url": found.url, "error": found.reason}
    return {"url": found.url, "results": found.holdings.results, "size": found.holdings.size}


def _json(kept: Kept) -> dict[str, Any]:
    used = datetime.fromtimestamp(kept.used_ns / 1e9, timezone.utc)
    return {
        "key": kept.key,
        "keys": [entry.key for entry in kept.entries if entry.of is None],
        "kind": kind_of(kept),
        "sha256": kept.sha256,
        "size": kept.size,
        "used": used.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "pinned": kept.pinned,
    }


def print_freed(found: Freed, *, dry: bool, console: Console | None = None) -> None:
    """Print what went, or with ``dry`` would go, a line each, and what that makes in all."""
    console = console or Console(highlight=False)
    verb = "would go" if dry else "removed"
    for kept in found.results:
        key, kind, size, used = _row(kept)
        console.print(Text(f"{verb}: {key} {kind}, {size}, used {used}"), soft_wrap=True)
    for kept in () if dry else found.busy:
        console.print(Text(f"in use: {kept.key[:12]}, {bytes_text(kept.size)}"), soft_wrap=True)
    for what in _leftovers(found.leftovers):
        console.print(Text(f"{verb}: {what}"), soft_wrap=True)
    freed = f"{bytes_text(found.size)} {'would be ' if dry else ''}freed"
    console.print(Text(f"{freed}, {bytes_text(found.left)} of results left"), soft_wrap=True)


def print_shared_freed(found: SharedFreed, *, dry: bool, console: Console | None = None) -> None:
    """As :func:`print_freed`, of the shared store; ages are those of the results."""
    console = console or Console(highlight=False)
    verb = "would go" if dry else "removed"
    for kept in found.results:
        key, kind, size, given = _row(kept)
        console.print(Text(f"{verb}: {key} {kind}, {size}, given {given}"), soft_wrap=True)
    if found.leftovers:
        console.print(Text(f"{verb}: {_count(found.leftovers, 'object')} of no result"), soft_wrap=True)
    freed = f"{bytes_text(found.size)} {'would be ' if dry else ''}freed"
    console.print(Text(f"{freed}, {bytes_text(found.left)} of results left"), soft_wrap=True)


def print_moved(found: Iterable[Moved], done: str, console: Console | None = None) -> None:
    """Print a line a key; ``done`` is what became of those that were moved."""
    console = console or Console(highlight=False)
    for each in found:
        step = "" if each.step is None else f" {each.step}"
        size = f", {bytes_text(each.size)}" if each.size else ""
        how = done if each.how == "moved" else each.how
        console.print(Text(f"{each.key[:12]}{step}: {how}{size}"), soft_wrap=True)


def _leftovers(left: Leftovers) -> Iterator[str]:
    counted = [
        (left.temporaries, "file of a killed build", "files of killed builds"),
        (left.orphans, "blob that no key leads to", "blobs that no key leads to"),
        (left.broken, "key without a result", "keys without results"),
        (left.locks, "idle lock file", "idle lock files"),
        (left.outputs, "record of an output that is gone", "records of outputs that are gone"),
        (
            left.digests,
            "digest of a file that is gone or changed",
            "digests of files that are gone or changed",
        ),
    ]
    return (f"{count} {one if count == 1 else many}" for count, one, many in counted if count)


def print_verified(found: Verified, console: Console | None = None) -> None:
    """Print how much was right; what was not is the error's to tell."""
    console = console or Console(highlight=False)
    what = "1 result as it was" if found.sound == 1 else f"{found.sound} results as they were"
    console.print(Text(f"{what}, {bytes_text(found.size)}"))


def verified_json(found: Verified) -> dict[str, Any]:
    """What was found as a JSON-ready dict."""
    return {
        "version": 1,
        "sound": found.sound,
        "size": found.size,
        "damaged": [_json(kept) for kept in found.damaged],
    }


def print_pinned(found: Iterable[Pinned], done: str, console: Console | None = None) -> None:
    """Print a line a key; ``done`` is what was done with it."""
    console = console or Console(highlight=False)
    lines = [_pinned(each, done) for each in found]
    for line in lines or ["nothing of it is kept in the store"]:
        console.print(Text(line), soft_wrap=True)


def _pinned(each: Pinned, done: str) -> str:
    step = "" if each.step is None else f" {each.step}"
    how = done if each.changed else f"{done} already" if done == "pinned" else "was not pinned"
    return f"{each.key[:12]}{step}: {how}{'' if each.there else ', not in the store yet'}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
