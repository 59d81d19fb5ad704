"""The figures of a plan's weights: each LoRA, those that meet, what merges change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from lorapipe.architectures import by_block, titles
from lorapipe.build.engines.threads import default_workers, ordered_map
from lorapipe.build.events import Listener, Progress, StepStarted
from lorapipe.build.looking.report import ENERGIES, Block, Meeting, Merged, Portrait
from lorapipe.build.noted import Figure
from lorapipe.build.records import Records
from lorapipe.build.sweep import Quantity
from lorapipe.errors import LorapipeError
from lorapipe.formats.adapters.read import read_adapter, read_adapter_spec
from lorapipe.formats.files import open_tensors
from lorapipe.plan.plan import Plan, PlannedStep, Status
from lorapipe.steps.kind import Context, Inputs, Materialise, Weighted
from lorapipe.weights.each import Each
from lorapipe.weights.figures import Figures, pooled
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleId

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter

__all__ = ["MOST_MEETING", "MOST_PORTRAYED", "Figured", "figured", "many", "merges"]

MOST_MEETING = 8
"""LoRAs of one family that are held against each other: 28 pairs, beyond which nobody reads."""


MOST_PORTRAYED = 4
"""Variants of a step that are each shown in full; of more, a figure or two stand in the sweep's table."""


@dataclass(slots=True)
class Figured:
    """What was measured; ``untold`` grows by a sentence for what could not be.

    ``measured`` are the figures of each LoRA that is a variant of a sweep, as a whole.
    """

    measured: dict[str, tuple[Figure, ...]] = field(default_factory=dict)
    portraits: list[Portrait] = field(default_factory=list)
    meetings: list[Meeting] = field(default_factory=list)
    merged: list[Merged] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)


def figured(plan: Plan, records: Records, listen: Listener) -> Figured:
    """Measure inputs, outputs that are in place, and merges.

    Inputs and outputs are read from their files, and what lies between from the store; what is
    neither there nor free to make is said to be missing. One module, or some slabs of a tensor,
    are in memory at a time. An input that is damaged costs its own figures alone. Of the variants of
    a step that are too :func:`many` each is measured as a whole alone, and no merge of them is.
    """
    return _Figuring(plan, records, listen, many(plan)).all()


def many(plan: Plan) -> frozenset[str]:
    """The steps of which there are more variants than a page shows one by one."""
    counts = Counter(planned.step.written for planned in plan.steps.values())
    return frozenset(s for s, planned in plan.steps.items() if counts[planned.step.written] > MOST_PORTRAYED)


class _NotThere(Exception):  # a signal: nobody sees it
    """A result that has yet to be made."""


@dataclass(slots=True)
class _Figuring:
    plan: Plan
    records: Records
    listen: Listener
    many: frozenset[str]
    found: Figured = field(default_factory=Figured)
    known: dict[str, Any] = field(default_factory=dict)

    def all(self) -> Figured:
        loras = list(_loras(self.plan))
        inputs = [planned for planned in loras if planned.source is not None]
        work: list[tuple[PlannedStep, Callable[[], None]]] = [
            (planned, partial(self.portray, planned)) for planned in loras
        ]
        if len(inputs) > 1:
            work.append((inputs[0], partial(self.meet, inputs)))
        work += [(planned, partial(self.shift, planned)) for planned in self.merges()]
        for number, (planned, do) in enumerate(work, start=1):
            self.listen(StepStarted(planned.step.id, "measure", number, len(work)))
            try:
                do()
            except _NotThere as missing:
                self.found.untold.append(f"{planned.step.id}: '{missing}' is not in the store: run first")
            except LorapipeError as error:
                self.found.untold.append(f"{planned.step.id}: {error.message}")
        return self.found

    def portray(self, planned: PlannedStep) -> None:
        from lorapipe.weights.algebra.portrait import portrait

        adapter = self.value(planned) if planned.source is not None else _read(planned)
        figures = portrait(adapter, each=self.each(planned, len(adapter.spec.modules)))
        path = planned.source.path if planned.source is not None else planned.output
        assert path is not None
        if planned.step.axes:
            self.found.measured[planned.step.id] = tuple(_whole(figures))
        if planned.step.id in self.many:
            return
        blocks = by_block(adapter.spec.family, adapter.spec.modules)
        shown = Portrait(planned.step.id, path, planned.source is None, adapter.spec, blocks, figures)
        self.found.portraits.append(shown)

    def meet(self, inputs: list[PlannedStep]) -> None:
        """Every pair of the first LoRAs of each family."""
        from lorapipe.weights.algebra.overlap import overlaps

        for family, all_of in _by_family(inputs).items():
            some = all_of[:MOST_MEETING]
            if len(all_of) > len(some):
                self.found.untold.append(f"of {len(all_of)} LoRAs the first {len(some)} are compared")
            if len(some) < 2:
                continue
            each = self.each(some[0], len({m for p in some for m in _spec(p).modules}))
            adapters = [(planned.step.id, self.value(planned)) for planned in some]
            for (i, j), found in overlaps(adapters, titles(), each=each).items():
                names = (some[i].step.id, some[j].step.id)
                self.found.meetings.append(Meeting(*names, by_block(family, found), found))

    def merges(self) -> list[PlannedStep]:
        """The last merges, but those in many variants: each is a pass over the checkpoint."""
        found = _last_merges(self.plan)
        counts = Counter(planned.step.written for planned in found if planned.step.id in self.many)
        for written, count in counts.items():
            said = f"{written}: how far each of {count} merges moves the checkpoint is told where --only"
            self.found.untold.append(f"{said} leaves {MOST_PORTRAYED} or fewer of them")
        return [planned for planned in found if planned.step.id not in self.many]

    def shift(self, planned: PlannedStep) -> None:
        from lorapipe.weights.checkpoints.shifts import shifts

        merged = self.value(planned)
        found = shifts(merged, each=self.each(planned, len(merged.edits)))
        first = {key: merged.edits[key][0].module for key in found}
        self.found.merged.append(Merged(planned.step.id, _tensors(merged.spec.family, first), found))

    def value(self, planned: PlannedStep) -> Any:
        """A step's value: of a file, of the store, or described, which costs nothing."""
        step = planned.step.id
        if step not in self.known:
            self.known[step] = self._value(planned)
        return self.known[step]

    def _value(self, planned: PlannedStep) -> Any:
        if planned.kind.materialise is not Materialise.LAZY:
            stored = None if planned.key is None else self.records.shelf.read(planned.key, "cpu")
            if stored is None:
                raise _NotThere(planned.step.id)
            return stored[0]
        ports = {
            port: tuple(Weighted(t.step, t.weight, self.value(self.plan.steps[t.step])) for t in terms)
            for port, terms in planned.step.inputs.items()
        }
        context = Context(compute=self.plan.profile.compute)
        return planned.kind.work(Inputs(ports, planned.files), planned.step.params, context)

    def each(self, planned: PlannedStep, total: int) -> Each:
        """All workers, and a word on how far they are."""
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            self.listen(Progress(planned.step.id, done, total))

        return ordered_map(default_workers(), tick)


def _whole(figures: Mapping[ModuleId, Figures]) -> Iterator[Figure]:
    """The figures of a LoRA as one; none of one that has a module that is not finite."""
    if not figures or not all(one.finite for one in figures.values()):
        return
    whole = pooled(figures.values())
    yield Quantity("norm", "number"), whole.norm
    yield Quantity("stable rank", "number"), whole.stable_rank
    for energy in ENERGIES:
        yield Quantity(f"rank for {energy:.0%}", "count"), float(whole.rank_for(energy))


def _loras(plan: Plan) -> Iterator[PlannedStep]:
    """The LoRAs that are files: inputs, then outputs in place."""
    for planned in plan.steps.values():
        if planned.source is not None and isinstance(planned.spec, AdapterSpec):
            yield planned
    for planned in plan.outputs:
        saved = plan.steps[planned.step.inputs["save"][0].step]
        if planned.status is Status.UP_TO_DATE and isinstance(saved.spec, AdapterSpec):
            yield planned


def merges(plan: Plan) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The steps that add LoRAs to a checkpoint, each with the step of that and those of the LoRAs."""
    found = {}
    for planned in plan.steps.values():
        terms = [term.step for term in planned.step.terms()]
        bases = [step for step in terms if isinstance(plan.steps[step].spec, CheckpointSpec)]
        loras = tuple(step for step in terms if isinstance(plan.steps[step].spec, AdapterSpec))
        if isinstance(planned.spec, CheckpointSpec) and len(bases) == 1 and loras:
            found[planned.step.id] = (bases[0], loras)
    return found


def _last_merges(plan: Plan) -> list[PlannedStep]:
    """The merges that no other merge goes on with: the last one has the edits of all."""
    found = merges(plan)
    further = {base for base, _ in found.values()}
    return [plan.steps[step] for step in found if step not in further]


def _spec(planned: PlannedStep) -> AdapterSpec:
    assert isinstance(planned.spec, AdapterSpec)
    return planned.spec


def _read(planned: PlannedStep) -> Adapter:
    """The LoRA that an output holds, from its file."""
    assert planned.output is not None
    source = open_tensors(planned.output)  # what is loaded reads on from the file, and so it owns it
    return read_adapter(source, read_adapter_spec(source))


def _by_family(inputs: Iterable[PlannedStep]) -> dict[str | None, list[PlannedStep]]:
    found: dict[str | None, list[PlannedStep]] = {}
    for planned in inputs:
        found.setdefault(_spec(planned).family, []).append(planned)
    return found


def _tensors(family: str | None, modules: Mapping[str, ModuleId]) -> dict[Block, tuple[str, ...]]:
    """Tensors in the order of the family's models, each by a module that goes to it."""
    keys: dict[ModuleId, list[str]] = {}
    for key, module in modules.items():
        keys.setdefault(module, []).append(key)
    blocks = by_block(family, keys)
    return {block: tuple(key for module in found for key in keys[module]) for block, found in blocks.items()}
