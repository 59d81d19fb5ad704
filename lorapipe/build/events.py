"""What a build tells while it runs; views turn these into a bar or into lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorapipe.build.sweep import Sweep
    from lorapipe.plan.plan import Plan

__all__ = [
    "Event",
    "Hashing",
    "Listener",
    "Note",
    "OutputReady",
    "Planned",
    "Progress",
    "StepDone",
    "StepStarted",
    "Swept",
]


@dataclass(frozen=True, slots=True)
class Hashing:
    """An input or output is being read to learn its sha256; bytes."""

    path: Path
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Planned:
    """What the build will do is decided; told again where the store lost what the plan counted on."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step is at its place of ``count`` in the schedule."""

    step: str
    kind: str
    position: int
    count: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is: modules done, of an output the bytes written.

    ``unit`` is what ``done`` counts: modules, items (what a check looks at), bytes of an output, or
    stored: bytes of a result that is made and goes into the store. ``share``, from 0 to 1, is how
    much of that work is done, which of unequal modules is no matter of their number; ``None``
    where it is just ``done / total``.
    """

    step: str
    done: int
    total: int
    unit: str = "modules"
    share: float | None = None

    @property
    def in_bytes(self) -> bool:
        return self.unit in ("bytes", "stored")

    @property
    def part(self) -> float:
        """How much of the step's work is done, from 0 to 1."""
        if self.share is not None:
            return self.share
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Note:
    """A fact about a step's result: ``energy``, ``unmatched``, ``underflow``."""

    step: str
    fact: str
    value: object


@dataclass(frozen=True, slots=True)
class StepDone:
    """``how`` a step came to its end; seconds of wall time.

    It is built, store, written, found (another process wrote it), holds or does not hold (a check),
    or held back.
    """

    step: str
    how: str
    seconds: float


@dataclass(frozen=True, slots=True)
class OutputReady:
    """An output that is in place, just written or up to date; size in bytes."""

    step: str
    path: Path
    sha256: str
    size: int
    written: bool


@dataclass(frozen=True, slots=True)
class Swept:
    """What came of the variants of a recipe with a matrix: told last, also where checks do not hold."""

    sweep: Sweep


Event = Hashing | Planned | StepStarted | Progress | Note | StepDone | OutputReady | Swept
Listener = Callable[[Event], None]
