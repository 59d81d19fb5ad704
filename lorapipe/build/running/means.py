"""What a build may use: threads and memory, and what of them a step gets."""

from __future__ import annotations

from dataclasses import dataclass

from lorapipe.build.engines.threads import AHEAD
from lorapipe.errors import UsageError
from lorapipe.plan.plan import Plan, PlannedStep

__all__ = ["LEAST", "Means", "Share"]

_ITSELF = 320 << 20
"""Bytes that the process takes before any weights: Python, torch, the libraries' own buffers (measured)."""

LEAST = 512 << 20
"""Bytes that a build can be kept within."""


@dataclass(frozen=True, slots=True)
class Share:
    """A step's part: how many threads, how many items under way, whether results go to the disk."""

    workers: int
    under_way: int
    spooled: bool


@dataclass(frozen=True, slots=True)
class Means:
    """``workers`` threads, and ``memory`` bytes for the whole process or ``None`` for any number."""

    workers: int
    memory: int | None = None

    def check(self, plan: Plan) -> None:
        """Say before any work that the memory will not do.

        Raises :class:`~lorapipe.errors.UsageError` ``memory-too-small``.
        """
        if self.memory is None:
            return
        if self.memory < LEAST:
            raise UsageError(
                "memory-too-small",
                f"no build can be kept within {_text(self.memory)}",
                hint=f"give --memory {_text(LEAST)} or more",
            )
        for position in plan.schedule:
            planned = plan.steps[position.step]
            least = _ITSELF + 2 * planned.cost.each
            if least > self.memory:
                raise UsageError(
                    "memory-too-small",
                    f"step '{planned.step.id}' takes {_text(least)}, one item at a time",
                    hint=f"give --memory {_text(least)} or more",
                )

    def share(self, planned: PlannedStep) -> Share:
        """What a step gets: as many items under way as have room, beside the one in use."""
        most = self.workers * AHEAD
        if self.memory is None:
            return Share(self.workers, most, spooled=False)
        room = self.memory - _ITSELF
        spooled = planned.cost.kept > room // 2
        room -= 0 if spooled else planned.cost.kept
        if planned.cost.each:
            most = max(1, min(most, room // planned.cost.each - 1))
        return Share(min(self.workers, most), most, spooled)


def _text(size: int) -> str:
    """In whole MiB, rounded up, as ``--memory`` takes it."""
    return f"{-(-size // (1 << 20))}MiB"
