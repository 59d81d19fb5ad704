"""A build as it goes: a live bar on a terminal, a line a step elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from lorapipe.build import events
from lorapipe.build.events import Event, Listener
from lorapipe.views.text import visible

__all__ = ["progress_view"]


@contextmanager
def progress_view(console: Console, *, quiet: bool = False) -> Iterator[Listener]:
    """A listener for a build's events that draws on ``console`` while the context lasts."""
    if quiet:
        yield _unheard
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
        )
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
            yield _Bar(progress).tell
    else:
        yield _Lines(console).tell


def _unheard(event: Event) -> None:
    pass


class _Lines:
    """One line for each step that is done: what a log wants."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._count = ""

    def tell(self, event: Event) -> None:
        if isinstance(event, events.StepStarted):
            self._count = f"[{event.position}/{event.count}]"
        elif isinstance(event, events.StepDone):
            self._print(f"{self._count} {event.step}: {event.how} in {event.seconds:.1f} s")
        elif isinstance(event, events.Note):
            for line in note_lines(event):
                self._print(line)

    def _print(self, line: str) -> None:
        self._console.print(Text(visible(line)), soft_wrap=True)


class _Bar:
    """One bar for the step at work; what is worth keeping is printed above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("planning", total=None)

    def tell(self, event: Event) -> None:
        if isinstance(event, events.Hashing):
            description = visible(f"hashing {event.path.name}")
            self._progress.update(
                self._task, description=description, completed=event.done, total=event.total
            )
        elif isinstance(event, events.StepStarted):
            self._progress.reset(self._task, total=None, description=visible(f"{event.kind}: {event.step}"))
        elif isinstance(event, events.Progress):
            self._progress.update(self._task, completed=event.done, total=event.total)
        elif isinstance(event, events.Note):
            for line in note_lines(event):
                self._progress.console.print(Text(visible(line)), soft_wrap=True)


def note_lines(note: events.Note) -> list[str]:
    """A fact in words: shares as the mean and the worst module, counts by what is counted."""
    if note.fact in _WORDS and isinstance(note.value, dict) and note.value:
        return [f"{note.step}: {_WORDS[note.fact](note.value)}"]
    counts = note.value if isinstance(note.value, dict) else {}
    if counts and all(isinstance(count, int) for count in counts.values()):
        return [f"{note.step}: {note.fact}: {', '.join(f'{n} {what}' for what, n in counts.items())}"]
    if note.fact == "underflow":
        values = "value" if note.value == 1 else "values"
        return [f"{note.step}: {note.value} {values} became zero in the output's dtype"] if note.value else []
    return [f"{note.step}: {note.fact}: {note.value}"]


def _energy(shares: Mapping[str, float]) -> str:
    worst = min(shares, key=shares.__getitem__)
    mean = sum(shares.values()) / len(shares)
    return f"keeps {mean:.2%} of the energy, at worst {shares[worst]:.2%} ({worst})"


def _error(shares: Mapping[str, float]) -> str:
    worst = max(shares, key=shares.__getitem__)
    mean = sum(shares.values()) / len(shares)
    return f"misses {mean:.2%} of the norm, at worst {shares[worst]:.2%} ({worst})"


def _ranks(ranks: Mapping[str, int]) -> str:
    return f"ranks from {min(ranks.values())} to {max(ranks.values())}"


def _figures(told: Mapping[str, Any]) -> Iterator[str]:
    """What a check measured, in words; of energy and norm the modules that are worst."""
    if "rank" in told:
        low, high = (told["rank"][end]["value"] for end in ("min", "max"))
        yield f"rank {high}" if low == high else f"rank {low}-{high}"
    if "modules" in told:
        yield f"modules {told['modules']}"
    if "finite" in told:
        yield "finite"
    if "norm" in told:
        low, high = told["norm"]["min"], told["norm"]["max"]
        yield f"norm {low['value']:.4g} to {high['value']:.4g} ({high['of']})"
    if "energy" in told:
        worst = told["energy"]["min"]
        yield f"energy {told['energy']['total']:.2%}, at worst {worst['value']:.2%} ({worst['of']})"
    if "differs-from" in told:
        yield f"differs ({told['differs-from']})"


_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "energy": _energy,
    "error": _error,
    "holds": lambda told: ", ".join(_figures(told)),
    "ranks": _ranks,
}
