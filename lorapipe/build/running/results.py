"""Results of stored kinds, as a build comes by them: found under either key, or made and kept.

The *plan key* stands for all that led to a result, down to the input files. The *content key*
has in place of each stored result above the sha256 of its bytes. So where such a result was made
anew and came out as before, what depends on it is found, and its work is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from lorapipe.build.records import Records
from lorapipe.build.shelf import EntryVanished, Holding, Notes
from lorapipe.formats.containers.output import OnBytes
from lorapipe.plan.lineage import content_key, over_results
from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.plan.provenance import account
from lorapipe.steps.kind import Materialise
from lorapipe.store.journal import Making
from lorapipe.store.manifest import Entry
from lorapipe.store.shared.behind import Fetched
from lorapipe.weights.specs import AdapterSpec

__all__ = ["Results"]

Work = Callable[[dict[str, object]], Any]
"""Makes a result, and puts what is to be noted of it into the map that it is given.

A LoRA, or of a check its figures as JSON."""


class Results:
    """The results of one build, and the sha256 of each as it becomes known."""

    def __init__(self, records: Records, plan: Plan) -> None:
        self._records = records
        self._plan = plan
        self._known: dict[str, str] = {}

    def obtain(
        self,
        planned: PlannedStep,
        work: Work,
        waiting: Callable[[], None],
        wrote: OnBytes,
        fetched: Fetched,
    ) -> tuple[Any, Notes | None]:
        """A stored step's result, and the notes kept with it if it was found.

        Of two processes that need it, one builds it and the other, which is told of ``waiting``,
        finds it. ``wrote`` is told the bytes that go into the store, ``fetched`` those that come from a
        shared one. Raises :class:`EntryVanished` when the plan counted on it and it is not there.
        """
        assert planned.key is not None
        with self._records.entry_lock(planned.key, waiting):
            found = self._read(planned, planned.key, fetched)
            if found is not None:
                return self._found(planned, *found)
            if planned.status is Status.IN_STORE:
                raise EntryVanished(planned.step.id)
            content, preimage = self._content(planned)
            if content == planned.key:
                return self._build(planned, work, wrote)[0], None
            with self._records.entry_lock(content, waiting):
                found = self._read(planned, content, fetched)
                if found is not None:
                    made = self.making(planned)
                    self._records.shelf.link(planned.key, found[1], made.preimage, lineage=made.lineage)
                    return self._found(planned, *found)
                value, entry = self._build(planned, work, wrote)
                if entry is not None:
                    self._records.shelf.link(content, entry, preimage, alias=True)
                return value, None

    def making(self, planned: PlannedStep) -> Making:
        """How a step's result comes to be: for the journal, and beside a result in the store."""
        assert planned.lineage is not None
        assert planned.preimage is not None
        lineage = account(planned.lineage, self._plan.profile)
        return Making(planned.preimage, lineage, self._content(planned)[0])

    def _content(self, planned: PlannedStep) -> tuple[str, str]:
        """The content key and its preimage; the plan key's where no stored result is above."""
        assert planned.lineage is not None
        assert planned.preimage is not None
        lineage = over_results(planned.lineage, self._known)
        return content_key(lineage, self._plan.profile, json.loads(planned.preimage)["file"])

    def _read(self, planned: PlannedStep, key: str, fetched: Fetched) -> tuple[Any, Entry] | None:
        if planned.kind.materialise is Materialise.CHECK:
            return self._records.shelf.read_figures(key)
        return self._records.shelf.read(key, self._plan.device, _holding(planned), fetched)

    def _found(self, planned: PlannedStep, value: Any, entry: Entry) -> tuple[Any, Notes]:
        self._learn(planned, entry)
        return value, entry.notes

    def _build(self, planned: PlannedStep, work: Work, wrote: OnBytes) -> tuple[Any, Entry | None]:
        assert planned.key is not None
        notes: dict[str, object] = {}
        value, making = work(notes), self.making(planned)
        if planned.kind.materialise is Materialise.CHECK:
            entry = self._records.shelf.write_figures(planned.key, making, value, notes)
        else:
            value, entry = self._records.shelf.write(
                planned.key, making, value, notes, self._plan.device, wrote, _holding(planned)
            )
        if entry is not None:  # a store without space keeps nothing
            self._learn(planned, entry)
        return value, entry

    def _learn(self, planned: PlannedStep, entry: Entry) -> None:
        assert planned.lineage is not None
        self._known[planned.lineage.digest] = entry.sha256


def _holding(planned: PlannedStep) -> Holding:
    """What a result from a store is held against: a shared one may have any that a stranger wrote."""
    spec = planned.spec
    assert isinstance(spec, AdapterSpec)
    return lambda value: value.check(spec)
