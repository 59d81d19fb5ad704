"""Results in the user's store, as a build reads and keeps them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lorapipe.errors import BuildError, LorapipeError
from lorapipe.formats.containers.output import OnBytes
from lorapipe.store.digest import FileState
from lorapipe.store.entries import Write
from lorapipe.store.journal import Making
from lorapipe.store.manifest import Entry
from lorapipe.store.reading import read_whole
from lorapipe.store.shared.behind import Fetched
from lorapipe.store.store import Store

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter

__all__ = ["EntryVanished", "Holding", "Notes", "Shelf"]

Notes = Mapping[str, object]
"""What a kind noted of its result, by fact: JSON."""

Holding = Callable[["Adapter"], None]
"""Raises :class:`~lorapipe.errors.LorapipeError` for a result that is not what was foretold."""


class EntryVanished(Exception):  # a signal to plan again, not an error that anybody sees
    """The store lost a result between the plan and its use."""


def _untold(done: int, total: int) -> None:
    pass


def _unheld(value: Adapter) -> None:
    pass


class Shelf:
    """The results of a store; ``grown`` once something was put there by this build."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._used: dict[Path, FileState] = {}
        self.grown = False

    def read(
        self, key: str, device: str, hold: Holding = _unheld, fetched: Fetched = _untold
    ) -> tuple[Adapter, Entry] | None:
        """The result with this key and what is known of it; ``None`` if it is not there or is damaged.

        ``hold`` sees whether it is what the key's step makes. From a shared store it is ``fetched`` first.
        """
        entry = self._store.find(key, fetched)
        return None if entry is None else self._opened(entry, device, hold)

    def _opened(self, entry: Entry, device: str, hold: Holding) -> tuple[Adapter, Entry] | None:
        from lorapipe.formats.stored import read_stored

        try:
            self._used[entry.path] = self._store.memo.hash(entry.path).state
            value = read_stored(entry.path, device=device)
            hold(value)
        except LorapipeError:  # gone between look and reading, of an older lorapipe, or another's
            self._store.disown(entry.key)
            return None
        return value, entry

    def hold(self) -> None:
        """See that no result of the store which the build reads was changed since it was verified.

        One that is gone from its place is read on from where it was. Raises :class:`EntryVanished`.
        """
        for path, verified in tuple(self._used.items()):  # other threads read results meanwhile
            with suppress(OSError):
                found = FileState.of(path)
                if found.identity == verified.identity and found != verified:
                    raise EntryVanished(path.name)

    def write(
        self,
        key: str,
        making: Making,
        value: Adapter,
        notes: Notes,
        device: str,
        wrote: OnBytes,
        hold: Holding = _unheld,
    ) -> tuple[Adapter, Entry | None]:
        """Keep a result under its key, and return it; a store whose disk is full costs time, not the build.

        On the CPU what is returned reads its factors from the store: a result in float64 is
        four times its inputs, and need not be in memory while others are made. ``wrote`` is told
        the bytes as they are written. Where a shared store got another machine's result of the key
        meanwhile, that one is returned, if it is one by ``hold``.
        """
        from lorapipe.formats.stored import read_stored, write_stored

        entry = self._put(key, making, lambda stream: write_stored(value, stream, wrote), notes)
        if entry is None:
            return value, None
        counts = self._store.settle(entry)
        if counts is not entry:
            theirs = self._opened(counts, device, hold)
            if theirs is not None:
                return theirs
            entry = self._store.link(key, entry, entry.preimage, lineage=entry.lineage)
        if device != "cpu":
            return value, entry
        self._used[entry.path] = FileState.of(entry.path)
        return read_stored(entry.path, device=device), entry

    def read_figures(self, key: str) -> tuple[Notes, Entry] | None:
        """What a check that held measured, and what is known of it; ``None`` if it is not there."""
        entry = self._store.find(key)
        try:
            return None if entry is None else (json.loads(read_whole(entry.path)), entry)
        except (OSError, ValueError, RecursionError):  # gone between look and reading
            return None

    def write_figures(self, key: str, making: Making, figures: Notes, notes: Notes) -> Entry | None:
        """Keep what a check measured under its key: that it is there says that the check held."""
        text = json.dumps(figures, ensure_ascii=False, sort_keys=True).encode()
        entry = self._put(key, making, lambda stream: stream.write(text), notes)
        return None if entry is None else self._store.settle(entry)

    def _put(self, key: str, making: Making, write: Write, notes: Notes) -> Entry | None:
        """Keep a result; ``None`` if the store has no room for it."""
        try:
            entry = self._store.entries.put(key, write, making.preimage, notes=notes, lineage=making.lineage)
        except BuildError as error:
            if error.code not in ("store-unwritable", "disk-full"):
                raise
            return None
        self.grown = True
        return entry

    def link(self, key: str, entry: Entry, preimage: str, *, lineage: str = "", alias: bool = False) -> None:
        """Let another key lead to a result; without it, it is only not found so soon again."""
        with suppress(BuildError):
            self._store.link(key, entry, preimage, lineage=lineage, alias=alias)
