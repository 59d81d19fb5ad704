"""A build as it goes: a live board on a terminal, lines in a log, JSON for a program, or nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.text import Text

from lorapipe.build.events import Event, Hashing, Listener, Progress, Sharing, StepStarted
from lorapipe.build.running.pace import Pace
from lorapipe.views.board import left_text
from lorapipe.views.said import Teller
from lorapipe.views.text import bytes_text, visible

__all__ = ["MODES", "progress_view"]

MODES = ("auto", "live", "plain", "json", "none")
"""How a build may be shown; ``auto`` is live where somebody watches, else plain."""

_EVERY_S = 30.0
"""Seconds between two lines of one step: a log is to show that something moves, and little more."""


def progress_view(
    console: Console, mode: str = "auto", *, quiet: bool = False, verbose: bool = False, fd: int = 2
) -> AbstractContextManager[Listener]:
    """A listener for a build's events that draws on ``console`` while the context lasts.

    ``mode`` is one of :data:`MODES`; ``live`` is plain where no terminal is. ``verbose`` adds keys,
    decisions and the states of files. JSON goes to the file descriptor ``fd``.
    """
    if quiet or mode == "none":
        return _silent()
    if mode == "json":
        from lorapipe.views.events_json import json_view

        return json_view(fd)
    if mode != "plain" and console.is_jupyter:
        from lorapipe.views.notebook import display_by_ipython, notebook_view

        return notebook_view(display_by_ipython, Teller(steps=False, verbose=verbose))
    if mode != "plain" and _watched(console):
        from lorapipe.views.live import live_view

        return live_view(console, Teller(steps=False, verbose=verbose))
    return _plain(console, Teller(steps=True, verbose=verbose))


def _watched(console: Console) -> bool:
    """Whether lines can be drawn over: not in a file or a pipe, whatever FORCE_COLOR says of colours."""
    forced = bool(os.environ.get("FORCE_COLOR")) or os.environ.get("TTY_COMPATIBLE") == "1"
    if console.is_dumb_terminal or not console.is_terminal:
        return False
    return console.file.isatty() or not forced


@contextmanager
def _silent() -> Iterator[Listener]:
    def unheard(event: Event) -> None:
        pass

    yield unheard


@contextmanager
def _plain(console: Console, teller: Teller) -> Iterator[Listener]:
    yield Lines(lambda line: console.print(Text(line), soft_wrap=True), teller).tell


class Lines:
    """A line for each step that is done, and now and then one for a step that takes long."""

    def __init__(
        self, write: Callable[[str], None], teller: Teller, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._teller, self._clock = write, teller, clock
        self._pace = Pace(clock)
        self._said: dict[str, float] = {}

    def tell(self, event: Event) -> None:
        self._pace.tell(event)
        lines = [*self._teller.lines(event)]
        if isinstance(event, StepStarted):
            self._said[event.step] = self._clock()
        elif isinstance(event, Progress | Hashing | Sharing):
            of, now = event.step if isinstance(event, Progress) else event.of, self._clock()
            if not lines and now - self._said.setdefault(of, now) >= _EVERY_S:
                lines = [self._under_way(event)]
                self._said[of] = now
        for line in lines:
            self._write(visible(line))

    def _under_way(self, event: Progress | Hashing | Sharing) -> str:
        if isinstance(event, Progress):
            name, part = self._teller.at(event.step), event.part
        else:
            name, part = event.name, event.done / event.total if event.total else 1.0
        facts = [f"{min(99, int(part * 100))}%"]
        if not isinstance(event, Progress) or event.in_bytes:
            facts.append(f"{bytes_text(event.done)} of {bytes_text(event.total)}")
            rate = self._pace.rate_of(event.step) if isinstance(event, Progress) else self._pace.rate
            if rate is not None:
                facts.append(f"{bytes_text(int(rate))}/s")
        else:
            facts.append(f"{event.done} of {event.total} {event.unit}")
        left = self._pace.of_phase(event.step if isinstance(event, Progress) else None)
        return f"{name}: {', '.join([*facts, left_text(left)] if left is not None else facts)}"
