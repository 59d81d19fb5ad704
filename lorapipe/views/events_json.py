"""A build's events for a program: one JSON object a line, as ``schemas/events.v1.schema.json`` has them."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lorapipe.build.events import (
    Event,
    Hashing,
    Listener,
    Note,
    OutputReady,
    Planned,
    Progress,
    Sharing,
    StepDone,
    StepStarted,
    Swept,
    Warned,
)
from lorapipe.build.running.pace import Pace
from lorapipe.errors import LorapipeError, Place, UsageError
from lorapipe.plan.plan import Plan
from lorapipe.version import __version__
from lorapipe.views.sweep_json import sweep_json
from lorapipe.views.text import json_number

__all__ = ["VERSION", "Stream", "json_view"]

VERSION = 1
"""Of the format; it rises when a program that reads it would have to change."""

_EVERY_S = 0.1
"""Seconds between two events that tell how far something is: enough for a bar that moves."""

_INTERNAL, _INTERRUPTED = 1, 130
_STDERR = 2


@contextmanager
def json_view(fd: int) -> Iterator[Listener]:
    """Write events to an open file descriptor while the context lasts, and at last how it ended.

    A reader that goes away ends nothing but the telling. Raises
    :class:`~lorapipe.errors.UsageError` ``fd-not-open``.
    """
    stream = Stream(_writer(fd))
    stream.begin()
    try:
        yield stream.tell
    except BaseException as error:
        stream.failed(error)
        raise
    stream.finished()


def _writer(fd: int) -> Callable[[bytes], object]:
    try:
        if fd == _STDERR and sys.stderr is None:  # closed by the shell: its number is the next file's
            raise OSError
        os.write(fd, b"")
    except OSError:
        hint = "open one for the command, as in: lorapipe run r.yaml --progress json --progress-fd 3 3>events"
        raise UsageError("fd-not-open", f"file descriptor {fd} cannot be written", hint=hint) from None
    gone = False

    def write(line: bytes) -> None:
        nonlocal gone
        try:
            while line and not gone:
                line = line[os.write(fd, line) :]
        except OSError:
            gone = True

    return write


class Stream:
    """Turns events into lines. ``clock`` gives seconds; of steps forward only some are told."""

    def __init__(self, write: Callable[[bytes], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock, self._pace = write, clock, Pace(clock)
        self._started = clock()
        self._last: dict[str, float] = {}

    def begin(self) -> None:
        self._put("begin", {"version": VERSION, "lorapipe": __version__})

    def finished(self) -> None:
        self._put("finished", {"status": 0})

    def failed(self, error: BaseException) -> None:
        """Tell with what the build ended: every error, or that it was interrupted."""
        if isinstance(error, LorapipeError):
            status = error.exit_status
            errors = [_error(e) for e in error.parts]
        elif isinstance(error, KeyboardInterrupt):
            status, errors = _INTERRUPTED, [{"code": "interrupted", "message": "interrupted"}]
        else:
            status, errors = _INTERNAL, [{"code": "internal", "message": f"{type(error).__name__}: {error}"}]
        self._put("failed", {"status": status, "errors": errors})

    def tell(self, event: Event) -> None:
        self._pace.tell(event)
        if not self._due(event):
            return
        match event:
            case Planned(plan):
                self._put("planned", _plan(plan))
            case Hashing(path, done, total):
                self._put("hashing", {"path": str(path), "done": done, "total": total, **self._speed()})
            case StepStarted(step, kind, position, count):
                self._put("step-started", {"step": step, "kind": kind, "position": position, "count": count})
            case Progress(step, done, total, unit):
                far = {"done": done, "total": total, "unit": unit, "share": round(event.part, 6)}
                self._put("progress", {"step": step, **far, **self._speed(step)})
            case Note(step, fact, value):
                self._put("note", {"step": step, "fact": fact, "value": value})
            case StepDone(step, how, seconds):
                self._put("step-done", {"step": step, "how": how, "seconds": round(seconds, 3)})
            case OutputReady(step, path, sha256, size, written):
                found = {"path": str(path), "sha256": sha256, "size": size, "written": written}
                self._put("output", {"step": step, **found})
            case _:
                self._tell_end(event)

    def _tell_end(self, event: Event) -> None:
        """What there is to tell when the steps are done."""
        match event:
            case Sharing(done, total):
                self._put("sharing", {"done": done, "total": total, **self._speed()})
            case Swept(sweep):
                self._put("sweep", sweep_json(sweep, None))
            case Warned(message):
                self._put("warning", {"message": message})

    def _due(self, event: Event) -> bool:
        """Whether to tell how far something is; that it began and that it is whole is always told."""
        if not isinstance(event, Progress | Hashing | Sharing):
            if isinstance(event, StepStarted | StepDone):
                self._last.pop(event.step, None)
            return True
        of, now = event.step if isinstance(event, Progress) else event.of, self._clock()
        if event.done >= event.total:
            self._last.pop(of, None)
            return True
        if now - self._last.get(of, -math.inf) < _EVERY_S:
            return False
        self._last[of] = now
        return True

    def _speed(self, step: str | None = None) -> dict[str, object]:
        """How fast a step at work, or the hashing, goes and for how long; and how long it all takes."""
        rate = self._pace.rate if step is None else self._pace.rate_of(step)
        phase, left = self._pace.of_phase(step), self._pace.left()
        found: dict[str, object] = {} if rate is None else {"bytes_per_second": int(rate)}
        if phase is not None:
            found["phase_left"] = round(phase.seconds, 1)
        if left is not None:
            found["left"] = {"seconds": round(left.seconds, 1), "least": left.least}
        return found

    def _put(self, event: str, facts: Mapping[str, object]) -> None:
        told = {"event": event, "time": round(self._clock() - self._started, 3), **facts}
        self._write(json.dumps(_plain(told), allow_nan=False).encode("ascii") + b"\n")


def _plan(plan: Plan) -> dict[str, object]:
    """What is decided: every step, and the schedule."""
    active = [plan.steps[position.step] for position in plan.schedule]
    return {
        "recipe": plan.recipe.file,
        "device": plan.device,
        "steps": [
            {
                "step": step,
                "kind": planned.step.kind,
                "status": planned.status.value,
                "reason": planned.reason,
                "key": planned.key,
                "input": None if planned.source is None else str(planned.source.path),
                "output": None if planned.output is None else str(planned.output),
            }
            for step, planned in plan.steps.items()
        ],
        "schedule": [position.step for position in plan.schedule],
        "read": sum(planned.cost.read for planned in active),
        "write": sum(planned.cost.written for planned in active),
        "fetch": sum(planned.fetch or 0 for planned in active),
        "warnings": list(plan.warnings),
    }


def _error(error: LorapipeError) -> dict[str, object]:
    where = error.where
    place: object = where
    if isinstance(where, Place):
        place = {"file": where.file, "line": where.line, "column": where.column}
    said = {"code": error.code, "message": error.message, "hint": error.remedy, "step": error.step}
    said |= {"module": error.module}
    found: dict[str, object] = {key: value for key, value in said.items() if value is not None}
    if place is not None:
        found["where"] = place
    return {**found, "details": list(error.details)} if error.details else found


def _plain(value: object) -> Any:
    """The value as JSON has it: no NaN, which JSON lacks, and of what it does not know the text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return json_number(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)
