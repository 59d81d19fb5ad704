"""What a build made, as values."""

from __future__ import annotations

from dataclasses import dataclass

from lorapipe.build.events import StepDone
from lorapipe.build.sweep import Sweep
from lorapipe.errors import LorapipeError
from lorapipe.plan.plan import Plan
from lorapipe.remote.url import Location

__all__ = ["Built", "BuiltOutput", "Done"]


@dataclass(frozen=True, slots=True)
class BuiltOutput:
    """An output in place; ``written`` is false when it was up to date already.

    Of one elsewhere ``etag`` is what its server calls its content.
    """

    step: str
    path: Location
    sha256: str
    size: int
    written: bool
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a schedule: the outputs written, in order, and an error for all that does not hold.

    ``steps`` are all that were done, in order, with their times.
    """

    written: tuple[BuiltOutput, ...] = ()
    failed: tuple[LorapipeError, ...] = ()
    steps: tuple[StepDone, ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """A finished build: its plan and its outputs in the order of the plan.

    ``steps`` are those that were done, in order, with their times; ``seconds`` is the wall time
    of the whole, hashing and planning included. ``sweep`` is what came of each variant of a recipe with
    a ``matrix``; ``None`` without one.
    """

    plan: Plan
    outputs: tuple[BuiltOutput, ...]
    steps: tuple[StepDone, ...] = ()
    seconds: float = 0.0
    sweep: Sweep | None = None

    def _repr_html_(self) -> str:
        """For a notebook: the outputs, and what was done."""
        from lorapipe.views.notebook import built_html

        return built_html(self)
