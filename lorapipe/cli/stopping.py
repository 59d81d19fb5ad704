"""Ctrl-C and SIGTERM: one way to stop, which nothing swallows and a second press does not disturb."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from lorapipe.errors import Interrupted

__all__ = ["Stopped", "leave", "stoppable"]

_AGAIN_S = 0.1
"""Seconds after which who did not hear is told again."""

_CLEANING_S = 5.0
"""Seconds for which nothing disturbs the cleaning up: should it ever hang, Ctrl-C helps again."""


class Stopped(KeyboardInterrupt):
    """A signal asked to stop; no error, so that nobody takes it for one and goes on."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise :class:`Stopped` in the main thread when a signal asks to stop, while the context lasts.

    It is raised again until it is seen to come through: a library that is being imported, or an
    object that Python collects, may swallow it (one import of numpy in forty did). While it comes
    through, and finally-clauses clean up, further signals are not heard.

    Raises :class:`~lorapipe.errors.Interrupted` in its place, and in that of whatever an interrupted
    import broke. A signal that is ignored, as a shell's background jobs ignore Ctrl-C, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    watch = _Watch()
    try:
        with watch.signals():
            yield
    except BaseException as error:
        if watch.asked is None:
            raise
        raise _interrupted(watch.asked) from error


class _Watch:
    """Whether a signal has ``asked`` to stop, and which."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self._since = 0.0

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Hear the signals, and hear of what Python swallows, as long as the context lasts."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
        before = {number: signal.getsignal(number) for number in numbers}
        unraised = sys.unraisablehook
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._stop)
        sys.unraisablehook = lambda found: isinstance(found.exc_value, Stopped) or unraised(found)
        try:
            yield
        finally:
            if self.asked is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)
            sys.unraisablehook = unraised
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the signal module's signature
        if self.asked is None:
            self.asked, self._since = number, time.monotonic()
        # By a timer of the system: a lock that the main thread holds must not matter.
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        hangs = number != signal.SIGALRM and time.monotonic() - self._since > _CLEANING_S
        if hangs or not _coming_through():
            raise Stopped


def _coming_through() -> bool:
    """Whether clean-up after a :class:`Stopped` is at work in the main thread."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, Stopped):
            return True
        error = error.__context__
    return False


def _interrupted(number: int) -> Interrupted:
    hint = "run again to go on"
    if number == signal.SIGTERM:
        return Interrupted("terminated", "stopped by SIGTERM", hint=hint)
    return Interrupted("interrupted", "interrupted", hint=hint)


def leave(status: int) -> NoReturn:
    """End the process now, with what was printed, and nothing else that Python does at its end.

    Python would wait for threads still at work, whose results nobody wants any more (the SVD of
    one large module takes ten seconds, measured), and take torch apart, which takes half a second.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # as it is where the shell closed it: >&-
            with suppress(
                OSError, ValueError
            ):  # nobody reads it any more, or there was no room: it has been said
                stream.flush()
    os._exit(status)
