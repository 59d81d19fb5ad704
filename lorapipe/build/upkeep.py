"""What a user does with the store itself: see what is in it, pin, trim, verify."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lorapipe.build.budget import store_budget
from lorapipe.build.events import Listener
from lorapipe.build.planning import hashing, plan, unheard
from lorapipe.errors import CheckFailed, UsageError
from lorapipe.plan.plan import Plan
from lorapipe.recipe.params import Given
from lorapipe.recipe.parsing import load_recipe
from lorapipe.steps.kind import Materialise
from lorapipe.store.eviction import Kept, evict, kept_results, surplus
from lorapipe.store.paths import store_root
from lorapipe.store.store import open_store
from lorapipe.store.tidying import Leftovers, tidy
from lorapipe.store.verification import Verified, verify

__all__ = [
    "Contents",
    "Freed",
    "Pinned",
    "collect",
    "contents",
    "kind_of",
    "named_keys",
    "pin",
    "require_sound",
    "unpin",
    "verified",
]

_NONE: Mapping[str, Given] = MappingProxyType({})

_PREFIX = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True, slots=True)
class Contents:
    """The store at ``root``: its results, the last used first, and the bytes that they may take."""

    root: Path
    results: tuple[Kept, ...]
    budget: int

    @property
    def size(self) -> int:
        return sum(kept.size for kept in self.results)


@dataclass(frozen=True, slots=True)
class Freed:
    """What went, or would go: ``results``, those that are ``busy`` in another process, and leftovers.

    ``left`` are the bytes of the results that stay.
    """

    results: tuple[Kept, ...]
    busy: tuple[Kept, ...]
    leftovers: Leftovers
    left: int

    @property
    def size(self) -> int:
        """Bytes freed."""
        return sum(kept.size for kept in self.results) + self.leftovers.size


@dataclass(frozen=True, slots=True)
class Pinned:
    """A key that was pinned or let go; ``step`` is the recipe's, ``there`` whether its result is.

    ``changed`` is False where it was so already.
    """

    key: str
    step: str | None
    there: bool
    changed: bool


def contents() -> Contents:
    """What is in the store; reads no data, writes nothing.

    Raises :class:`~lorapipe.errors.UsageError` ``bad-store-size``.
    """
    with open_store(looking=True) as store:
        root = store.paths.root
        return Contents(root, kept_results(store), store_budget(os.environ, root))


def kind_of(kept: Kept) -> str | None:
    """The kind of step that made a result; ``None`` if its manifest does not say."""
    try:
        found = json.loads(kept.entries[0].preimage)["result"]["kind"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def collect(most: int | None = None, unused_s: float | None = None, *, dry: bool = False) -> Freed:
    """Bring the store to at most ``most`` bytes (its budget, if not told) and clear away what serves nobody.

    With ``unused_s`` what was not used for so many seconds goes, whatever the size. Pinned results,
    and those that a process is at work on, stay. ``dry`` removes nothing.

    Raises :class:`~lorapipe.errors.BuildError` where the store cannot be written, and as :func:`contents`.
    """
    root = store_root()
    budget = store_budget(os.environ, root) if most is None else most
    since = 0 if unused_s is None else time.time_ns() - int(unused_s * 1e9)
    with open_store(looking=dry) as store:
        if not dry and root.is_dir():
            store.database.prepare()
        results = kept_results(store)
        chosen = surplus(results, most=budget, unused_since=since)
        gone = chosen if dry else tuple(kept for kept in chosen if evict(store, kept))
        leftovers = tidy(store, only_count=dry)
    left = sum(kept.size for kept in results) - sum(kept.size for kept in gone)
    return Freed(gone, tuple(kept for kept in chosen if kept not in gone), leftovers, left)


def verified(listen: Listener = unheard) -> Verified:
    """Hash every result in the store, and drop those that are damaged."""
    with open_store() as store:
        return verify(store, hashing(listen))


def require_sound(found: Verified) -> None:
    """Raise :class:`~lorapipe.errors.CheckFailed` ``store-damaged`` if anything was damaged."""
    if found.damaged:
        count = len(found.damaged)
        raise CheckFailed(
            "store-damaged",
            f"{count} {'result was' if count == 1 else 'results were'} not what the store had been given",
            hint="what was dropped is built again when it is needed; the disk may be failing",
            details=[f"{kept.key[:12]} {kind_of(kept) or ''}".rstrip() for kept in found.damaged],
        )


def pin(what: str, params: Mapping[str, Given] = _NONE) -> tuple[Pinned, ...]:
    """Keep results whatever the size budget says: those of a recipe, or the one of a key.

    ``what`` is a recipe's path, or the first digits of a key in the store. The results of
    a recipe are those that it has with ``params``; one that is not built yet stays when it is.

    Raises :class:`~lorapipe.errors.UsageError`: ``unknown-key``, ``ambiguous-key``; what a plan raises,
    and :class:`~lorapipe.errors.BuildError` ``store-unwritable``.
    """
    with open_store() as store:
        return tuple(
            Pinned(key, step, store.entries.peek(key) is not None, store.pins.add(key))
            for key, step in named_keys(what, (entry.key for entry in store.entries.all()), params)
        )


def unpin(what: str, params: Mapping[str, Given] = _NONE) -> tuple[Pinned, ...]:
    """Undo :func:`pin`; raises the same."""
    with open_store() as store:
        return tuple(
            Pinned(key, step, store.entries.peek(key) is not None, store.pins.remove(key))
            for key, step in named_keys(what, store.pins.keys(), params)
        )


def named_keys(
    what: str, known: Iterable[str], params: Mapping[str, Given], *, read: bool = False
) -> list[tuple[str, str | None]]:
    """The keys of a recipe's results, each with its step; else of ``known`` keys the one that is meant.

    With ``read`` the recipe's inputs are hashed for it.
    """
    if _PREFIX.fullmatch(what) is None or Path(what).exists():
        recipe = load_recipe(Path(what), params)
        return list(_recipe_keys(plan(recipe, read=read)))
    found = sorted({key for key in known if key.startswith(what)})
    if len(found) == 1:
        return [(found[0], None)]
    if found:
        raise UsageError("ambiguous-key", f"{len(found)} keys begin with '{what}'", hint="give more digits")
    raise UsageError("unknown-key", f"no key begins with '{what}'", hint="lorapipe store ls shows them")


def _recipe_keys(made: Plan) -> list[tuple[str, str | None]]:
    kept = (Materialise.STORED, Materialise.CHECK)
    stored = [each for each in made.steps.values() if each.kind.materialise in kept]
    unread = [each.step.id for each in stored if each.key is None]
    if unread:
        raise UsageError(
            "inputs-not-hashed",
            f"what {', '.join(unread)} is made of is not hashed yet",
            hint="'lorapipe run' it first, or 'lorapipe plan --hash'",
        )
    return [(each.key, each.step.id) for each in stored if each.key is not None]
