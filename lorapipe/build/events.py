"""What a build tells while it runs; views turn these into a bar or into lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorapipe.build.sweep import Sweep
    from lorapipe.plan.plan import Plan
    from lorapipe.remote.url import Location

__all__ = [
    "Event",
    "Hashing",
    "Listener",
    "Note",
    "OutputReady",
    "Planned",
    "Progress",
    "Sharing",
    "StepDone",
    "StepStarted",
    "Swept",
    "Warned",
    "one_at_a_time",
]


@dataclass(frozen=True, slots=True)
class Hashing:
    """An input or output is being read to learn its sha256; bytes."""

    path: Location
    done: int
    total: int

    @property
    def of(self) -> str:
        """What tells one such reading from another."""
        return str(self.path)

    @property
    def name(self) -> str:
        return f"hashing {self.path.name}"


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

    ``unit`` is what ``done`` counts: modules, items (what a check looks at), bytes of an output,
    stored: bytes of a result that is made and goes into the store, or fetched: of one that comes from
    the shared store. ``share``, from 0 to 1, is how
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
        return self.unit in ("bytes", "stored", "fetched")

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

    It is built, store, fetched (from the shared store), written, found (another process wrote it),
    holds or does not hold (a check), or held back.
    """

    step: str
    how: str
    seconds: float


@dataclass(frozen=True, slots=True)
class OutputReady:
    """An output that is in place, just written or up to date; size in bytes."""

    step: str
    path: Location
    sha256: str
    size: int
    written: bool


@dataclass(frozen=True, slots=True)
class Sharing:
    """The build is done, and what it made is on its way to the shared store; bytes."""

    done: int
    total: int
    of = name = "to the shared store"


@dataclass(frozen=True, slots=True)
class Swept:
    """What came of the variants of a recipe with a matrix: told last, also where checks do not hold."""

    sweep: Sweep


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that is not wrong, and yet should be known, and that no plan could tell."""

    message: str


Event = Hashing | Planned | StepStarted | Progress | Note | StepDone | OutputReady | Sharing | Swept | Warned
Listener = Callable[[Event], None]


def one_at_a_time(listen: Listener) -> Listener:
    """``listen`` for events of several threads, which need not know of each other."""
    lock = Lock()

    def told(event: Event) -> None:
        with lock:
            listen(event)

    return told
