"""Machines that share a store: each with a folder, a store and a recipe of its own, in one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lorapipe.build.events import Event, Planned, Progress, Sharing, StepDone, Warned
from lorapipe.build.result import Built
from lorapipe.build.run import Options, build, plan
from lorapipe.plan.plan import Plan
from lorapipe.recipe.parsing import load_recipe
from lorapipe.store.manifest import Entry
from lorapipe.store.store import Store, open_store

from ..bench import Bench

STEPS = """
    a: {load: a.safetensors}
    small: {svd-resize: a, rank: 2}
    fine: {check: small, norm: {max: 1000}}
    mixed: {shuffle: small, seed: 7}
    again: {svd-resize: mixed, rank: 1}
    one: {save: again, to: one.safetensors}
    two: {save: small, to: two.safetensors}
"""
STORED = ("small", "mixed", "again")


@dataclass
class Machine:
    """One that builds ``STEPS`` with its own store before the shared one at ``shared``."""

    folder: Path
    shared: str | None
    events: list[Event] = field(default_factory=list)

    @property
    def bench(self) -> Bench:
        return Bench(self.folder)

    @property
    def options(self) -> Options:
        return Options(workers=1, store=self.folder / "store", shared_store=self.shared)

    def run(self, listen: Callable[[Event], None] = lambda event: None) -> Built:
        self.events = []

        def told(event: Event) -> None:
            self.events.append(event)
            listen(event)

        return build(load_recipe(self.folder / "r.yaml"), self.options, listen=told)

    def plan(self, *, read: bool = True) -> Plan:
        """What a run would do; with ``read`` inputs are hashed, else nothing is written."""
        return plan(load_recipe(self.folder / "r.yaml"), self.options, read=read)

    def entry(self, step: str) -> Entry | None:
        """What the machine's own store has of a step."""
        key = self.plan().steps[step].key
        assert key is not None
        with self.store() as store:
            return store.entries.peek(key)

    def store(self) -> Store:
        return open_store(self.options.places)

    @property
    def hows(self) -> dict[str, str]:
        """How each step came to its end in the last run."""
        return {event.step: event.how for event in self.events if isinstance(event, StepDone)}

    @property
    def made(self) -> set[str]:
        """The stored steps and checks that the last run worked on, in whichever of its attempts."""
        done = [event for event in self.events if isinstance(event, StepDone)]
        return {event.step for event in done if event.how in ("built", "holds")} - {"a"}

    @property
    def fetched(self) -> Counter[str]:
        """Bytes that the last run told of each step that it fetched."""
        last: Counter[str] = Counter()
        for event in self.events:
            if isinstance(event, Progress) and event.unit == "fetched":
                last[event.step] = event.done
        return last

    @property
    def shared_bytes(self) -> int:
        return max((event.total for event in self.events if isinstance(event, Sharing)), default=0)

    @property
    def warnings(self) -> list[str]:
        """What the last run warned of, in its plan or after it."""
        planned = [event.plan for event in self.events if isinstance(event, Planned)]
        told = [event.message for event in self.events if isinstance(event, Warned)]
        return [w for w in [*planned[-1].warnings, *told] if "shared store" in w]

    def output(self, name: str = "one") -> bytes:
        return (self.folder / f"{name}.safetensors").read_bytes()


def machine(folder: Path, shared: str | None, steps: str = STEPS) -> Machine:
    """A new machine with the same input and recipe as any other."""
    folder.mkdir(parents=True)
    made = Machine(folder, shared)
    # The library writes two facts in any order; one has only one.
    made.bench.lora("a", rank=4, metadata={"ss_base_model_version": "sd_v1"})
    made.bench.recipe(steps)
    return made
