"""What a build may use: threads and memory, and what of them a step gets."""

from __future__ import annotations

from dataclasses import dataclass

from lorapipe.build.engines.memory import available
from lorapipe.build.engines.threads import AHEAD
from lorapipe.errors import UsageError
from lorapipe.plan.plan import Plan, PlannedStep
from lorapipe.remote.uploading import memory
from lorapipe.remote.url import Url

__all__ = ["LEAST", "Means", "Share"]

_ITSELF = 320 << 20
"""Bytes that the process takes before any weights: Python, torch, the libraries' own buffers (measured)."""

_AT_ONCE = 4

_OURS = 0.75
"""Of the memory that is free, what a build that was given no limit takes for several tasks at a time."""

LEAST = 512 << 20
"""Bytes that a build can be kept within."""


@dataclass(frozen=True, slots=True)
class Share:
    """A step's part: how many items are under way, and whether results wait on the disk."""

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
            least = _ITSELF + 2 * planned.cost.each + _sending(planned)
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
            return Share(most, spooled=False)
        room = self.memory - _ITSELF - _sending(planned)
        spooled = planned.cost.kept > room // 2
        room -= 0 if spooled else planned.cost.kept
        if planned.cost.each:
            most = max(1, min(most, room // planned.cost.each - 1))
        return Share(most, spooled)

    def need(self, planned: PlannedStep) -> int:
        """Bytes that a step takes with its share, beside what the process itself does."""
        share = self.share(planned)
        kept = _sending(planned) + (0 if share.spooled else planned.cost.kept)
        return (share.under_way + 1) * planned.cost.each + kept

    @property
    def at_once(self) -> int:
        """Tasks that run at a time: enough that one computes while others read and write."""
        return min(self.workers, _AT_ONCE)

    @property
    def room(self) -> int | None:
        """Bytes that all tasks at work may take together; ``None`` where nobody knows."""
        if self.memory is not None:
            return self.memory - _ITSELF
        free = available()
        return None if free is None else int(free * _OURS)


def _sending(planned: PlannedStep) -> int:
    """Bytes of an output on their way to a URL."""
    return memory(planned.cost.written) if isinstance(planned.output, Url) else 0


def _text(size: int) -> str:
    """In whole MiB, rounded up, as ``--memory`` takes it."""
    return f"{-(-size // (1 << 20))}MiB"
