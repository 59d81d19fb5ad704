"""What a build made, as values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorapipe.errors import LorapipeError
from lorapipe.plan.plan import Plan

__all__ = ["Built", "BuiltOutput", "Done"]


@dataclass(frozen=True, slots=True)
class BuiltOutput:
    """An output in place; ``written`` is false when it was up to date already."""

    step: str
    path: Path
    sha256: str
    size: int
    written: bool


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a schedule: the outputs written, in order, and an error for all that does not hold."""

    written: tuple[BuiltOutput, ...] = ()
    failed: tuple[LorapipeError, ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """A finished build: its plan and its outputs in the order of the plan."""

    plan: Plan
    outputs: tuple[BuiltOutput, ...]
