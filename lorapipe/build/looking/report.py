"""What a report tells, as values: a plan, what a run told of it, and figures of the weights. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lorapipe.build.sweep import Sweep
from lorapipe.plan.plan import Plan
from lorapipe.remote.url import Location
from lorapipe.weights.figures import Figures
from lorapipe.weights.overlaps import Overlap
from lorapipe.weights.shifts import Shift
from lorapipe.weights.specs import AdapterSpec, ModuleId

__all__ = [
    "ENERGIES",
    "Block",
    "Checked",
    "Lost",
    "Meeting",
    "Merged",
    "Portrait",
    "Ran",
    "Report",
    "ReportFile",
    "Resized",
]

ENERGIES = (0.9, 0.99)
"""Shares of a LoRA's squared norm for which the rank is told that keeps them."""

Block = tuple[str, str]
"""A model of the family and a block of it, as :func:`~lorapipe.architectures.by_block` has them."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a step's result came in the run that is reported, and in how many seconds."""

    how: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ReportFile:
    """An input or output: its step, size in bytes, sha256 where known, whether it is there.

    ``state`` says of an output whether it was written, up to date, or is not built.
    """

    step: str
    path: Location
    output: bool
    size: int | None
    sha256: str | None
    state: str


@dataclass(frozen=True, slots=True)
class Portrait:
    """The figures of a LoRA's file: ``blocks`` are its modules in the order of the family's models.

    A module without ``figures`` is a function of the weight (OFT, IA3), which has none of its own.
    """

    step: str
    path: Location
    output: bool
    spec: AdapterSpec
    blocks: Mapping[Block, tuple[ModuleId, ...]]
    figures: Mapping[ModuleId, Figures]


@dataclass(frozen=True, slots=True)
class Meeting:
    """Two LoRAs, by their steps, on the modules that both have."""

    one: str
    two: str
    blocks: Mapping[Block, tuple[ModuleId, ...]]
    overlaps: Mapping[ModuleId, Overlap]


@dataclass(frozen=True, slots=True)
class Resized:
    """The share of its squared norm that each module keeps where ranks are cut, by name."""

    step: str
    energy: Mapping[str, float]

    @property
    def mean(self) -> float:
        return sum(self.energy.values()) / len(self.energy)

    @property
    def worst(self) -> float:
        return min(self.energy.values())


@dataclass(frozen=True, slots=True)
class Merged:
    """How far a merge moves a checkpoint: the tensors of each block, by the file's own keys."""

    step: str
    blocks: Mapping[Block, tuple[str, ...]]
    shifts: Mapping[str, Shift]


@dataclass(frozen=True, slots=True)
class Lost:
    """A module of a merged LoRA that has no place in the checkpoint, and why."""

    step: str
    lora: str
    module: str
    reason: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A check: what it asserts, whether that holds (``None`` where it is not known), its figures."""

    step: str
    asserted: tuple[str, ...]
    holds: bool | None
    figures: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a report tells.

    ``ran`` is of the run that it is about, and empty if it is about none. ``recipe`` is ``None`` for a
    report of files alone. ``untold`` says in words what could not be found out, and why. ``sweep`` is
    of a recipe with a matrix; ``many`` are those of its steps of which there are too many variants to
    show each.
    """

    title: str
    recipe: Path | None
    folder: Path
    plan: Plan
    ran: Mapping[str, Ran]
    files: tuple[ReportFile, ...]
    portraits: tuple[Portrait, ...]
    meetings: tuple[Meeting, ...]
    resized: tuple[Resized, ...]
    merged: tuple[Merged, ...]
    lost: tuple[Lost, ...]
    checked: tuple[Checked, ...]
    errors: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    sweep: Sweep | None = None
    many: frozenset[str] = frozenset()
