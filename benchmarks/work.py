"""What a work is: who is asked, for what, and what the result is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.data import Lora
from benchmarks.peers import Place

__all__ = ["Check", "Contestant", "Goal", "Setting", "Work"]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how large: ``small`` is for tests of the harness, its figures mean nothing."""

    small: bool
    data: Path
    scratch: Path
    peers: Mapping[str, Place]
    kohya: Place = field(default_factory=lambda: Place(missing="not given (--kohya PATH)"))
    kohya_folder: Path | None = None

    @property
    def divide(self) -> int:
        return 16 if self.small else 1

    def rank(self, rank: int) -> int:
        """A rank, in proportion."""
        return rank // 8 if self.small else rank

    def lora(self, layout: str, rank: int, seed: int, **more: Any) -> Lora:
        return Lora(layout, self.rank(rank), seed, divide=self.divide, **more)


@dataclass(frozen=True, slots=True)
class Check:
    """A function of :mod:`benchmarks.check` and what it gets after the output's path."""

    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One program on one work.

    ``command`` runs in a folder of its own, with ``files`` in it and ``output`` made
    there. ``scale`` times what it takes above ``startup`` is the figure for the whole
    work, where only a sample of it is run. ``prepare`` runs once, unmeasured, and what it
    leaves is kept. ``size`` is what is asked of it: modules and bytes of input.
    """

    name: str
    role: str
    """``lorapipe``, ``peer`` or ``floor``."""
    command: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None
    check: Check | None = None
    missing: str = ""
    note: str = ""
    scale: float = 1.0
    startup: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    needs: int = 0
    """Bytes of memory below which it is not started."""
    inputs: tuple[Path, ...] = ()
    """Read once before each run; the work's where empty."""


@dataclass(frozen=True, slots=True)
class Goal:
    """``metric`` of the row ``of``, alone or over the largest of ``over``, is to be ``limit`` at most."""

    metric: str
    limit: float
    of: str = "lorapipe"
    over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """One section of the results."""

    name: str
    title: str
    contestants: tuple[Contestant, ...]
    inputs: tuple[Path, ...] = ()
    goals: tuple[Goal, ...] = ()
    note: str = ""
