"""A build at one moment, as lines that fit a terminal: its steps, how far each is, what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Lock

from rich.cells import cell_len
from rich.text import Text

from lorapipe.build.engines.memory import resident
from lorapipe.build.events import Event, Hashing, Planned, Progress, Sharing, StepDone, StepStarted
from lorapipe.build.running.pace import Left, Pace
from lorapipe.views.cells import Glyphs, bar, cell, fitted, packed, written
from lorapipe.views.steplines import WIDEST_BAR, Row, step_lines
from lorapipe.views.text import bytes_text, clock_text

__all__ = ["Board", "left_text"]


class Board:
    """Hears a build's events; :meth:`lines` draws what they come to.

    Events come from threads that build, and drawing is another's: each takes the lock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock, self._clock, self._pace = Lock(), clock, Pace(clock)
        self._started = clock()
        self._rows: dict[str, Row] = {}
        self._device = ""
        self._hashing: Hashing | Sharing | None = None

    def tell(self, event: Event) -> None:
        with self._lock:
            self._pace.tell(event)
            self._hear(event)

    def _hear(self, event: Event) -> None:
        match event:
            case Hashing() | Sharing():
                # A file that is read to its end is no news any more; what comes after it may be long.
                self._hashing = event if event.done < event.total else None
            case Planned(plan):
                self._device = plan.device
                steps = [plan.steps[position.step].step for position in plan.schedule]
                self._rows = {step.id: Row(step.id, step.kind, step.written) for step in steps}
            case StepStarted(step, kind):
                self._hashing = None
                self._rows.setdefault(step, Row(step, kind, step)).begun = True  # nobody told the plan
            case Progress(step):
                self._hashing = None
                if step in self._rows:
                    self._rows[step].progress = event
            case StepDone(step, how, seconds) if step in self._rows:
                self._rows[step].how, self._rows[step].seconds = how, seconds

    def lines(self, width: int, height: int, signs: Glyphs) -> list[Text]:
        """At most ``height - 1`` lines of less than ``width`` cells."""
        with self._lock:
            foot = list(packed(self._facts(), width - 1))
            if self._hashing is not None:
                foot.insert(0, self._hashing_line(self._hashing, width - 1, signs))
            room = max(1, height - 1 - len(foot))
            steps = list(step_lines(list(self._rows.values()), width - 1, room, signs))
        return [fitted(line, width - 1, signs) for line in (*steps, *map(Text, foot))][: max(1, height - 1)]

    def _hashing_line(self, hashing: Hashing | Sharing, width: int, signs: Glyphs) -> str:
        part = hashing.done / hashing.total if hashing.total else 1.0
        name = written(hashing.name, signs)
        far = bar(part, min(WIDEST_BAR, max(12, width - cell_len(name) - 2)), signs).plain
        room = max(8, width - cell_len(far) - 2)
        return f"{name if cell_len(name) <= room else cell(name, room, signs)}  {far}"

    def _facts(self) -> list[str]:
        """What is said below the steps, most telling first."""
        done = sum(1 for row in self._rows.values() if row.how)
        taken = clock_text(self._clock() - self._started)
        facts = [*self._amounts()]
        left = self._pace.of_phase() if self._hashing is not None else self._pace.left()
        facts.append(f"{done} of {len(self._rows)} steps" if self._rows else "planning")
        facts.append(f"{taken} so far")
        if left is not None:
            facts.append(left_text(left))
        memory = resident()
        if memory is not None:
            facts.append(f"{bytes_text(memory)} of memory")
        return [*facts, f"on {self._device}"] if self._device else facts

    def _amounts(self) -> Iterator[str]:
        """How much of what is under way, and how fast."""
        at_work = [row.progress for row in self._rows.values() if row.at_work]
        known = [progress for progress in at_work if progress is not None]
        now = self._hashing or (known[0] if len(known) == 1 else None)
        if len(at_work) > 1:
            yield f"{len(at_work)} at work"
        if now is not None and (not isinstance(now, Progress) or now.in_bytes):
            where = _WHERE.get(now.unit, "") if isinstance(now, Progress) else ""
            yield f"{bytes_text(now.done)} of {bytes_text(now.total)}{where}"
        elif now is not None:
            yield f"{now.done} of {now.total} {now.unit}"
        if (self._hashing or known) and (rate := self._pace.rate) is not None:
            yield f"{bytes_text(int(rate))}/s"


_WHERE = {"stored": " to the store", "fetched": " from the shared store"}


def left_text(left: Left) -> str:
    """``0:20 left``; ``at least 0:20 left`` where more is to come of which nothing is known."""
    return f"{'at least ' if left.least else ''}{clock_text(left.seconds)} left"
