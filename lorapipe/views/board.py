"""A build at one moment, as lines that fit a terminal: its steps, how far each is, what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from lorapipe.build.engines.memory import resident
from lorapipe.build.events import Event, Hashing, Planned, Progress, StepDone, StepStarted
from lorapipe.build.running.pace import Left, Pace
from lorapipe.views.text import bytes_text, clock_text, visible

__all__ = ["Board", "Glyphs", "glyphs", "left_text"]

_NARROW = 60
"""Columns below which the kinds of the steps are not shown."""

_BAR = 30


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The signs that a terminal's encoding has."""

    encoding: str
    done: str
    failed: str
    at_work: str
    full: str
    empty: str
    cut: str


def glyphs(encoding: str) -> Glyphs:
    """Signs that can be written in an encoding; plain ASCII where the better ones are not in it."""
    try:
        "✓✗▸━─…".encode(encoding)
    except LookupError:
        return glyphs("ascii")
    except UnicodeEncodeError:
        return Glyphs(encoding, "+", "!", ">", "#", ".", "~")
    return Glyphs(encoding, "✓", "✗", "▸", "━", "─", "…")


@dataclass(slots=True)
class _Row:
    """A step on the schedule; ``how`` once it is done."""

    step: str
    kind: str
    how: str = ""
    seconds: float = 0.0


class Board:
    """Hears a build's events; :meth:`lines` draws what they come to.

    Events come from the thread that builds, and drawing is another's: each takes the lock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock, self._clock, self._pace = Lock(), clock, Pace(clock)
        self._started = clock()
        self._rows: list[_Row] = []
        self._at = -1
        self._device = ""
        self._progress: Progress | None = None
        self._hashing: Hashing | None = None

    def tell(self, event: Event) -> None:
        with self._lock:
            self._pace.tell(event)
            self._hear(event)

    def _hear(self, event: Event) -> None:
        match event:
            case Hashing():
                # A file that is read to its end is no news any more; what comes after it may be long.
                self._hashing = event if event.done < event.total else None
            case Planned(plan):
                self._device, self._at = plan.device, -1
                self._rows = [_Row(p.step, plan.steps[p.step].step.kind) for p in plan.schedule]
            case StepStarted(step, kind, position, _):
                self._hashing, self._progress, self._at = None, None, position - 1
                if not 0 <= self._at < len(self._rows):  # nobody told the plan
                    self._rows, self._at = [*self._rows, _Row(step, kind)], len(self._rows)
            case Progress():
                self._hashing, self._progress = None, event
            case StepDone(_, how, seconds) if self._rows:
                self._rows[self._at].how, self._rows[self._at].seconds = how, seconds
                self._progress = None

    def lines(self, width: int, height: int, signs: Glyphs) -> list[Text]:
        """At most ``height - 1`` lines of less than ``width`` cells."""
        with self._lock:
            foot = list(_packed(self._facts(), width - 1))
            if self._hashing is not None:
                foot.insert(0, self._hashing_line(self._hashing, width - 1, signs))
            rows = list(self._shown(max(1, height - 1 - len(foot)), signs))
            drawn = [self._row_line(row, width - 1, signs) if isinstance(row, _Row) else row for row in rows]
        return [_fitted(line, width - 1, signs) for line in (*drawn, *map(Text, foot))][: max(1, height - 1)]

    def _shown(self, room: int, signs: Glyphs) -> Iterator[_Row | Text]:
        """As many rows as have room, the step at work among them; the others counted."""
        count = len(self._rows)
        if count <= room:
            yield from self._rows
            return
        room = max(1, room - 2)
        # Of what is done little is shown: what comes next is of more interest.
        start = max(0, min(self._at - min(2, room // 3), count - room))
        if start:
            yield Text(f"{signs.done} {start} done", style="green")
        yield from self._rows[start : start + room]
        if rest := count - start - room:
            yield Text(f"  {rest} more", style="dim")

    def _row_line(self, row: _Row, width: int, signs: Glyphs) -> Text:
        names = max(cell_len(_written(r.step, signs)) for r in self._rows)
        kinds = max(cell_len(_written(r.kind, signs)) for r in self._rows) if width >= _NARROW else 0
        names = min(names, max(12, width // 4))
        at_work = 0 <= self._at < len(self._rows) and row is self._rows[self._at] and not row.how
        failed = row.how in ("does not hold", "held back")
        mark = signs.at_work if at_work else signs.failed if failed else signs.done if row.how else " "
        line = Text(f"{mark} ", style="red" if failed else "green" if row.how else "bold")
        line.append(_cell(row.step, names, signs), style="bold" if at_work else "")
        if kinds:
            line.append("  " + _cell(row.kind, min(kinds, 21), signs), style="dim")
        line.append("  ")
        if row.how:
            line.append(_written(f"{row.how} in {row.seconds:.1f} s", signs), style="dim")
        elif at_work and self._progress is not None:
            line.append_text(_bar(self._progress.part, min(_BAR, width - line.cell_len), signs))
        elif not at_work:
            line.stylize("dim")
        return line

    def _hashing_line(self, hashing: Hashing, width: int, signs: Glyphs) -> str:
        part = hashing.done / hashing.total if hashing.total else 1.0
        name = _written(f"hashing {hashing.path.name}", signs)
        bar = _bar(part, min(_BAR, max(12, width - cell_len(name) - 2)), signs).plain
        room = max(8, width - cell_len(bar) - 2)
        return f"{name if cell_len(name) <= room else _cell(name, room, signs)}  {bar}"

    def _facts(self) -> list[str]:
        """What is said below the steps, most telling first."""
        done = sum(1 for row in self._rows if row.how)
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
        now = self._hashing or self._progress
        if isinstance(now, Hashing) or (now is not None and now.in_bytes):
            stored = isinstance(now, Progress) and now.unit == "stored"
            yield f"{bytes_text(now.done)} of {bytes_text(now.total)}{' to the store' if stored else ''}"
            if (rate := self._pace.rate) is not None:
                yield f"{bytes_text(int(rate))}/s"
        elif now is not None:
            yield f"{now.done} of {now.total} {now.unit}"


def left_text(left: Left) -> str:
    """``0:20 left``; ``at least 0:20 left`` where more is to come of which nothing is known."""
    return f"{'at least ' if left.least else ''}{clock_text(left.seconds)} left"


def _bar(part: float, width: int, signs: Glyphs) -> Text:
    """A bar with its percentage, or just that where there is no room; 100 % only of what is whole."""
    percent = f"{min(99, int(part * 100)) if part < 1.0 else 100:3d}%"
    room = width - len(percent) - 1
    if room < 4:  # less shows nothing
        return Text(percent)
    full = min(room, int(part * room))
    bar = Text(signs.full * full, style="cyan")
    bar.append(signs.empty * (room - full), style="dim")
    return bar.append(f" {percent}", style="default")


def _packed(facts: Sequence[str], width: int) -> Iterator[str]:
    """The facts on as few lines as hold them, none of them parted."""
    line = ""
    for fact in facts:
        longer = f"{line}, {fact}" if line else fact
        if line and cell_len(longer) > width:
            yield line
            line = fact
        else:
            line = longer
    if line:
        yield line


def _written(text: str, signs: Glyphs) -> str:
    """The text as it comes to stand on the terminal, whose encoding may lack some of it."""
    shown = visible(text)
    try:
        shown.encode(signs.encoding)
    except UnicodeEncodeError:
        return shown.encode("ascii", "backslashreplace").decode("ascii")
    return shown


def _cell(text: str, width: int, signs: Glyphs) -> str:
    """The text in just so many cells."""
    shown = _written(text, signs)
    if cell_len(shown) <= width:
        return set_cell_size(shown, width)
    return set_cell_size(shown, width - 1) + signs.cut


def _fitted(line: Text, width: int, signs: Glyphs) -> Text:
    """The line, cut where the terminal ends, and without spaces there: they would be wrapped."""
    line.rstrip()
    if line.cell_len > width:
        line = line[: max(0, _prefix(line.plain, width - 1))]
        line.append(signs.cut)
    line.no_wrap, line.overflow = True, "crop"
    return line


def _prefix(text: str, width: int) -> int:
    """How many characters fit so many cells."""
    taken = 0
    for place, character in enumerate(text):
        taken += cell_len(character)
        if taken > width:
            return place
    return len(text)
