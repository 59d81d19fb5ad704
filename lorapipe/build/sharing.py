"""The shared store behind the user's own, as a plan and a build use it; without one, nothing is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lorapipe.errors import Interrupted
from lorapipe.plan.plan import PlannedStep
from lorapipe.store.shared.behind import Fetched
from lorapipe.store.store import Store

__all__ = ["Sharing"]


def _untold(done: int, total: int) -> None:
    pass


class Sharing:
    """What ``store`` has of a shared store behind it.

    With ``at_once`` whatever is made here is given before it counts: other machines wait for it.
    """

    def __init__(self, store: Store, *, at_once: bool = False) -> None:
        self._store = store
        if store.shared is not None:
            store.shared.at_once = at_once

    def look(self, keys: Collection[str], needed: Collection[str] = ()) -> Mapping[str, int]:
        """Which of the keys the shared store has, with the bytes of their results; asked for at once.

        What is ``needed`` is fetched now, unless the store is only looked at, and else does not count.
        """
        if self._store.shared is None or not keys:
            return {}
        found = self._store.shared.look(keys)
        if self._store.database.looking:
            return found
        return {key: size for key, size in found.items() if key not in needed or self._fetched(key)}

    def _fetched(self, key: str) -> bool:
        with self._store.entries.lock(key):
            return self._store.find(key) is not None

    @property
    def unasked(self) -> str | None:
        """Why the shared store is not asked for anything, in a sentence."""
        return None if self._store.shared is None else self._store.shared.unasked

    @property
    def troubles(self) -> tuple[str, ...]:
        """What the shared store did not do as it should so far, in sentences."""
        return () if self._store.shared is None else self._store.shared.troubles

    @property
    def fetched(self) -> bool:
        """Whether anything came from the shared store."""
        return self._store.shared is not None and self._store.shared.fetched

    def give_up(self, planned: PlannedStep | None) -> bool:
        """Count no more on the shared store for a step's result; False if nothing counted on it."""
        if self._store.shared is None or planned is None or planned.key is None or planned.fetch is None:
            return False
        self._store.shared.give_up(planned.key)
        return True

    def finish(self, told: Fetched = _untold) -> bool:
        """Wait until the shared store has all that was made here; whether it has."""
        if self._store.shared is None:
            return True
        self._store.shared.finish(told)
        return self._store.shared.whole

    def leave(self, kind: type[BaseException] | None) -> None:
        """As :meth:`finish`, after an error too; but who stops a build waits for no one."""
        if kind is None or not issubclass(kind, KeyboardInterrupt | Interrupted):
            self.finish()
        elif self._store.shared is not None:
            self._store.shared.abandon()
