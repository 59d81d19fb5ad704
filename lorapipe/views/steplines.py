"""The steps of a build as lines of a board: each by itself, but variants of one together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from lorapipe.build.events import Progress
from lorapipe.views.cells import Glyphs, bar, cell, written
from lorapipe.views.tables import hows_text

__all__ = ["WIDEST_BAR", "Row", "step_lines"]

_NARROW = 60
"""Columns below which the kinds of the steps are not shown."""

WIDEST_BAR = 30
_KIND = 21
_FAILED = ("does not hold", "held back")


@dataclass(slots=True)
class Row:
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

    rows: Sequence[Row]

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

    row: Row
    at_work = True
    how = ""
    count = 0

    @property
    def name(self) -> str:
        return self.row.variant


_Line = Row | _Variants | _Variant


def step_lines(rows: Sequence[Row], width: int, room: int, signs: Glyphs) -> Iterator[Text]:
    """At most ``room`` lines, which may be wider than ``width`` cells where these are few."""
    lines = list(_grouped(rows))
    columns = _columns(lines, width, signs)
    for line in _shown(lines, room, signs):
        yield line if isinstance(line, Text) else _drawn(line, columns, signs)


def _grouped(rows: Sequence[Row]) -> Iterator[_Line]:
    """A line a step of the recipe: of several variants one together, and below it those at work."""
    groups: dict[str, list[Row]] = {}
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
    drawn.append_text(bar(line.part, min(WIDEST_BAR, columns.width - drawn.cell_len - len(far)), signs))
    return drawn.append(far)


def _with_bar(drawn: Text, part: float, columns: _Columns, signs: Glyphs) -> Text:
    return drawn.append_text(bar(part, min(WIDEST_BAR, columns.width - drawn.cell_len), signs))
