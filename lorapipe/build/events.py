"""What a build tells while it runs; views turn these into a bar or into lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Event", "Hashing", "Listener", "Note", "OutputReady", "Progress", "StepDone", "StepStarted"]


@dataclass(frozen=True, slots=True)
class Hashing:
    """An input or output is being read to learn its sha256; bytes."""

    path: Path
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step is at its place of ``count`` in the schedule."""

    step: str
    kind: str
    position: int
    count: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is: modules done, of an output the bytes written."""

    step: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Note:
    """A fact about a step's result: ``energy``, ``unmatched``, ``underflow``."""

    step: str
    fact: str
    value: object


@dataclass(frozen=True, slots=True)
class StepDone:
    """``how`` is built, store, written, or found (another process wrote it); seconds of wall time."""

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


Event = Hashing | StepStarted | Progress | Note | StepDone | OutputReady
Listener = Callable[[Event], None]
