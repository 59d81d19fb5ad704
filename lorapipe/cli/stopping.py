"""Ctrl-C and SIGTERM: one way to stop, which a second press does not disturb."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from lorapipe.errors import Interrupted

__all__ = ["Stopped", "leave", "stoppable", "told"]

_CLEANING_S = 1.0
"""Seconds that cleaning up may take: who asks again meanwhile is not heard, and after it he is."""
_AGAIN_S = 0.01


class Stopped(KeyboardInterrupt):
    """A signal asked to stop; no error, so that nobody takes it for one and goes on."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise :class:`Stopped` in the main thread when a signal asks to stop, while the context lasts.

    A signal that is ignored, as a shell's background jobs ignore Ctrl-C, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    asked = -_CLEANING_S
    lost = sys.unraisablehook

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # the signal module's signature
        nonlocal asked
        now = time.monotonic()
        if now - asked >= _CLEANING_S:
            asked = now
            raise Stopped(number)

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        # A signal that comes while Python collects an object is swallowed there: it has to come again.
        nonlocal asked
        if isinstance(found.exc_value, Stopped):
            asked = -_CLEANING_S
            threading.Timer(_AGAIN_S, os.kill, (os.getpid(), found.exc_value.number)).start()
        else:
            lost(found)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, stop)
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = lost
        for number in heard:
            signal.signal(number, before[number])


def told(error: KeyboardInterrupt) -> Interrupted:
    """An interruption as an error that says what happened and how to go on."""
    terminated = isinstance(error, Stopped) and error.number == signal.SIGTERM
    message = "stopped by SIGTERM" if terminated else "interrupted"
    return Interrupted("terminated" if terminated else "interrupted", message, hint="run again to go on")


def leave(status: int) -> NoReturn:
    """End the process now, with what was printed, and nothing else that Python does at its end.

    Python would wait for threads still at work, whose results nobody wants any more (the SVD of
    one large module takes ten seconds, measured), and take torch apart, which takes half a second.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # nobody reads it any more: Python has its ways to say so
        sys.exit(status)
    os._exit(status)
