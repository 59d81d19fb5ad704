"""What a user does with the shared store itself: see what is in it, give, fetch, let go of what is old."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from lorapipe.build.events import Listener, Sharing
from lorapipe.build.planning import unheard
from lorapipe.build.upkeep import named_keys
from lorapipe.errors import BuildError, UsageError
from lorapipe.recipe.params import Given
from lorapipe.store.places import SHARED_VARIABLE, Places, find_places
from lorapipe.store.shared.behind import Behind
from lorapipe.store.shared.bucket import Trouble
from lorapipe.store.shared.upkeep import Holdings, SharedFreed, clear, holdings
from lorapipe.store.store import Store, open_store

__all__ = ["Moved", "SharedContents", "collect_shared", "pull", "push", "shared_contents"]

_NONE: Mapping[str, Given] = MappingProxyType({})


def _untold(done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class SharedContents:
    """The shared store at ``url``; ``holdings`` is ``None`` where it cannot be asked, for a ``reason``."""

    url: str
    holdings: Holdings | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """A key that was to go from one store to the other, the recipe's ``step``, and what became of it.

    ``how`` is moved, there already, not here (it is not built yet), or not there (nobody gave it).
    """

    key: str
    step: str | None
    size: int
    how: str


def shared_contents() -> SharedContents | None:
    """What is in the shared store, by a listing; ``None`` if none is named."""
    places = find_places()
    if places.shared is None:
        return None
    with open_store(places, looking=True) as store:
        assert store.shared is not None
        try:
            return SharedContents(places.shared, holdings(store.shared.opened()[0]))
        except Trouble as trouble:
            return SharedContents(places.shared, None, trouble.reason)


def collect_shared(
    most: int | None = None, older_s: float | None = None, *, dry: bool = False
) -> SharedFreed:
    """Let go of results of the shared store that are older, and of the oldest beyond ``most`` bytes.

    Raises :class:`~lorapipe.errors.UsageError` ``no-shared-store`` and ``no-limit``,
    :class:`~lorapipe.errors.BuildError` ``shared-store``.
    """
    if most is None and older_s is None:
        hint = "such as --older-than 90d, or --max-size 500GiB"
        raise UsageError("no-limit", "it is not said what of the shared store may go", hint=hint)
    with open_store(_places(), looking=True) as store, _behind(store) as behind:
        bucket, catalog = behind.opened()
        return clear(bucket, catalog, most=most, older_s=older_s, dry=dry)


def push(what: str, params: Mapping[str, Given] = _NONE, listen: Listener = unheard) -> tuple[Moved, ...]:
    """Give the results of a recipe, or that of a key, to the shared store, as far as they are here.

    Raises as :func:`collect_shared`, also where not all could be given, and what a plan raises.
    """
    with open_store(_places()) as store, _behind(store) as behind:
        entries = list(store.entries.all())
        keys = named_keys(what, (entry.key for entry in entries), params, read=True)
        there = behind.look([key for key, _ in keys])
        moved = [_given(store, key, step, there) for key, step in keys]
        results = {peeked.sha256 for each in moved if (peeked := store.entries.peek(each.key)) is not None}
        for entry in entries:  # with every key that leads to a result
            if entry.sha256 in results:
                behind.give(entry)
        behind.finish(lambda done, total: listen(Sharing(done, total)))
        return tuple(moved)


def pull(
    what: str, params: Mapping[str, Given] = _NONE, fetched: Callable[[int, int], None] = _untold
) -> tuple[Moved, ...]:
    """Fetch the results of a recipe that the shared store has, and the store of this machine lacks.

    ``fetched`` is told bytes and size of each. Raises as :func:`push`.
    """
    with open_store(_places()) as store, _behind(store) as behind:
        keys = named_keys(what, (), params, read=True)
        there = behind.look([key for key, _ in keys])
        return tuple(_taken(store, key, step, there, fetched) for key, step in keys)


def _given(store: Store, key: str, step: str | None, there: Mapping[str, int]) -> Moved:
    entry = store.entries.get(key)
    if key in there:
        return Moved(key, step, there[key], "there already")
    return Moved(key, step, 0, "not here") if entry is None else Moved(key, step, entry.size, "moved")


def _taken(
    store: Store, key: str, step: str | None, there: Mapping[str, int], fetched: Callable[[int, int], None]
) -> Moved:
    with store.entries.lock(key):
        entry = store.entries.get(key)
        if entry is not None:
            return Moved(key, step, entry.size, "there already")
        entry = store.find(key, fetched) if key in there else None
    return Moved(key, step, 0, "not there") if entry is None else Moved(key, step, entry.size, "moved")


def _places() -> Places:
    places = find_places()
    if places.shared is None:
        hint = f"such as {SHARED_VARIABLE}=s3://bucket/prefix"
        raise UsageError("no-shared-store", "no shared store is named", hint=hint)
    return places


@contextmanager
def _behind(store: Store) -> Iterator[Behind]:
    """The shared store, whose troubles are errors here: it is what the user asked for."""
    behind = store.shared
    assert behind is not None
    try:
        yield behind
    except Trouble as trouble:
        raise _unusable(f"the shared store {behind.url} cannot be used: {trouble.reason}") from trouble
    if behind.troubles:
        raise _unusable(*behind.troubles)


def _unusable(message: str, *details: str) -> BuildError:
    hint = "'lorapipe store ls' says whether it can be asked; see that you may read and write it"
    return BuildError("shared-store", message, hint=hint, details=details)
