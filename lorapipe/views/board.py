"""A build at one moment, as lines that fit a terminal: its steps, how far each is, what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

from rich.cells import cell_len
from rich.text import Text

from lorapipe.build.engines.memory import resident
from lorapipe.build.events import Event, Hashing, Planned, Progress, Sharing, StepDone, StepStarted
from lorapipe.build.running.pace import Left, Pace
from lorapipe.views.cells import Glyphs, bar, cell, fitted, packed, written
from lorapipe.views.tables import hows_text
from lorapipe.views.text import bytes_text, clock_text

__all__ = ["Board", "left_text"]

_NARROW = 60
"""Columns below which the kinds of the steps are not shown."""

_BAR = 30
_KIND = 21
_FAILED = ("does not hold", "held back")


@dataclass(slots=True)
class _Row:
    """A step on the schedule; ``how`` once it is done. ``written`` is its id in the recipe's text."""

    step: str
    kind: str
    written: str
    how: str = ""
    seconds: float = 0.0
    begun: bool = False
    progress: Progress | None = None

    @property
    def variant(self) -> str:
        """Its values on the axes, as its id has them."""
        return self.step.removeprefix(self.written).strip("[]")

    @property
    def at_work(self) -> bool:
        return self.begun and not self.how

    @property
    def count(self) -> int:
        return 1

    @property
    def part(self) -> float:
        """How much of it is done, from 0 to 1."""
        if self.how:
            return 1.0
        return 0.0 if self.progress is None else self.progress.part

    @property
    def failed(self) -> bool:
        return self.how in _FAILED


@dataclass(frozen=True, slots=True)
class _Variants:
    """All variants of a step together."""

    rows: Sequence[_Row]

    @property
    def step(self) -> str:
        return self.rows[0].written

    @property
    def kind(self) -> str:
        return self.rows[0].kind

    @property
    def at_work(self) -> bool:
        return any(row.at_work for row in self.rows)

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def done(self) -> int:
        return sum(bool(row.how) for row in self.rows)

    @property
    def how(self) -> str:
        """How they came, once all are done."""
        return hows_text(row.how for row in self.rows) if self.done == self.count else ""

    @property
    def part(self) -> float:
        return sum(row.part for row in self.rows) / self.count

    @property
    def failed(self) -> int:
        return sum(row.failed for row in self.rows)


@dataclass(frozen=True, slots=True)
class _Variant:
    """One variant that is at work, below the step that it is one of."""

    row: _Row
    at_work = True
    how = ""
    count = 0

    @property
    def name(self) -> str:
        return self.row.variant


_Line = _Row | _Variants | _Variant


class Board:
    """Hears a build's events; :meth:`lines` draws what they come to.

    Events come from threads that build, and drawing is another's: each takes the lock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock, self._clock, self._pace = Lock(), clock, Pace(clock)
        self._started = clock()
        self._rows: dict[str, _Row] = {}
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
                self._rows = {step.id: _Row(step.id, step.kind, step.written) for step in steps}
            case StepStarted(step, kind):
                self._hashing = None
                self._rows.setdefault(step, _Row(step, kind, step)).begun = True  # nobody told the plan
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
            lines = list(_grouped(list(self._rows.values())))
            columns = _columns(lines, width - 1, signs)
            shown = _shown(lines, max(1, height - 1 - len(foot)), signs)
            drawn = [line if isinstance(line, Text) else _drawn(line, columns, signs) for line in shown]
        return [fitted(line, width - 1, signs) for line in (*drawn, *map(Text, foot))][: max(1, height - 1)]

    def _hashing_line(self, hashing: Hashing | Sharing, width: int, signs: Glyphs) -> str:
        part = hashing.done / hashing.total if hashing.total else 1.0
        name = written(hashing.name, signs)
        far = bar(part, min(_BAR, max(12, width - cell_len(name) - 2)), signs).plain
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


def _grouped(rows: Sequence[_Row]) -> Iterator[_Line]:
    """A line a step of the recipe: of several variants one together, and below it those at work."""
    groups: dict[str, list[_Row]] = {}
    for row in rows:
        groups.setdefault(row.written, []).append(row)
    for group in groups.values():
        if len(group) == 1:
            yield group[0]
        else:
            yield _Variants(group)
            yield from (_Variant(row) for row in group if row.at_work)


def _shown(lines: Sequence[_Line], room: int, signs: Glyphs) -> Iterator[_Line | Text]:
    """As many lines as have room, those at work among them; the steps of the others counted."""
    if len(lines) <= room:
        yield from lines
        return
    room = max(1, room - 2)
    kept = [place for place, line in enumerate(lines) if line.at_work][:room]
    unfinished = (place for place, line in enumerate(lines) if not line.how)
    # Of what is done little is shown: what comes next is of more interest.
    start = max(0, (kept[0] if kept else next(unfinished, len(lines))) - min(2, room // 3))
    others = (place for place in (*range(start, len(lines)), *range(start - 1, -1, -1)) if place not in kept)
    chosen = sorted([*kept, *(place for place, _ in zip(others, range(room - len(kept)), strict=False))])
    left_out = [line for place, line in enumerate(lines) if place not in set(chosen)]
    if done := sum(line.count for line in left_out if line.how):
        yield Text(f"{signs.done} {done} done", style="green")
    yield from (lines[place] for place in chosen)
    if rest := sum(line.count for line in left_out if not line.how):
        yield Text(f"  {rest} more", style="dim")


@dataclass(frozen=True, slots=True)
class _Columns:
    """Cells of the names, of the kinds (0: not shown), and of a whole line."""

    names: int
    kinds: int
    width: int


def _columns(lines: Sequence[_Line], width: int, signs: Glyphs) -> _Columns:
    named = [line for line in lines if not isinstance(line, _Variant)]
    names = max((cell_len(written(line.step, signs)) for line in named), default=0)
    names = min(names, max(12, width // 4))
    if width < _NARROW:
        return _Columns(names, 0, width)
    kinds = min(_KIND, max((cell_len(written(line.kind, signs)) for line in named), default=0))
    # What is below a step has its two columns, and begins two further in.
    rows = (row for line in named if isinstance(line, _Variants) for row in line.rows)
    below = max((cell_len(written(row.variant, signs)) for row in rows), default=0)
    return _Columns(names, max(kinds, min(below - names, width // 3)), width)


def _drawn(line: _Line, columns: _Columns, signs: Glyphs) -> Text:
    if isinstance(line, _Variant):
        room = columns.names + (2 + columns.kinds if columns.kinds else 0)
        drawn = Text(f"  {signs.at_work} ", style="bold")
        drawn.append(cell(line.name, max(8, room - 2), signs) + "  ")
        return _with_bar(drawn, line.row.part, columns, signs) if line.row.progress else drawn
    mark = signs.failed if line.failed else signs.done if line.how else signs.at_work if line.at_work else " "
    drawn = Text(f"{mark} ", style="red" if line.failed else "green" if line.how else "bold")
    drawn.append(cell(line.step, columns.names, signs), style="bold" if line.at_work else "")
    if columns.kinds:
        drawn.append("  " + cell(line.kind, columns.kinds, signs), style="dim")
    drawn.append("  ")
    if isinstance(line, _Variants):
        return _of_variants(drawn, line, columns, signs)
    if line.how:
        drawn.append(written(f"{line.how} in {line.seconds:.1f} s", signs), style="dim")
    elif line.progress is not None:
        return _with_bar(drawn, line.part, columns, signs)
    elif not line.at_work:
        drawn.stylize("dim")
    return drawn


def _of_variants(drawn: Text, line: _Variants, columns: _Columns, signs: Glyphs) -> Text:
    if line.how:
        return drawn.append(written(line.how, signs), style="dim")
    if not line.done and not line.at_work:
        drawn.append(f"{line.count} variants").stylize("dim")
        return drawn
    far = f"  {line.done} of {line.count}{f', {line.failed} failed' if line.failed else ''}"
    drawn.append_text(bar(line.part, min(_BAR, columns.width - drawn.cell_len - len(far)), signs))
    return drawn.append(far)


def _with_bar(drawn: Text, part: float, columns: _Columns, signs: Glyphs) -> Text:
    return drawn.append_text(bar(part, min(_BAR, columns.width - drawn.cell_len), signs))
