"""From threads to the event loop that the libraries live on, and back; asking again what fails in passing."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from lorapipe.errors import UsageError
from lorapipe.remote.filesystem import faults
from lorapipe.remote.url import Url

__all__ = ["PATIENCE", "Patience", "called", "patience", "started"]

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds that a server may give nothing before it is given up; ``LORAPIPE_REMOTE_TIMEOUT`` sets others."""

_TRIES = 3
"""How often a request that gives nothing is made within that time, at least."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0

_FIRST_CALL = 5.0
"""Seconds after which a server that was never reached is given up: its name is wrong, or the net is down."""


def patience() -> float:
    """Seconds of ``LORAPIPE_REMOTE_TIMEOUT``, or :data:`PATIENCE`.

    Raises :class:`~lorapipe.errors.UsageError` ``bad-variable``.
    """
    text = os.environ.get("LORAPIPE_REMOTE_TIMEOUT", "")
    try:
        seconds = float(text) if text else PATIENCE
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        message = f"LORAPIPE_REMOTE_TIMEOUT is '{text[:40]}', which is no number of seconds"
        raise UsageError("bad-variable", message, hint="write for example 60")
    return seconds


class Patience:
    """How long one thing that is asked for may still take, in pauses that double.

    What arrives renews it (:meth:`renew`), so that a slow connection is borne and a dead one is not.
    ``beginning`` says that nothing came from there yet: who cannot be reached then is soon given up.
    """

    def __init__(self, seconds: float, *, beginning: bool = False) -> None:
        self.seconds = seconds
        self._reachable_by = time.monotonic() + min(_FIRST_CALL, seconds) if beginning else None
        self.renew()

    def renew(self) -> None:
        """Something arrived: begin anew."""
        self._until = time.monotonic() + self.seconds
        self._pause = min(_FIRST_PAUSE, self.seconds / 60)

    @property
    def quiet(self) -> float:
        """Seconds that a single request may give nothing."""
        return min(self.seconds / _TRIES, max(0.001, self._until - time.monotonic()))

    def check(self) -> None:
        """Raise ``TimeoutError`` when it is at its end."""
        if time.monotonic() >= self._until:
            raise TimeoutError

    async def pause(self, error: Exception, url: Url) -> None:
        """Wait before asking again; raises ``error`` where that would not help, or took too long already."""
        import asyncio

        from lorapipe.remote.reasons import is_foreign, reason_of

        reason = reason_of(error, url) if is_foreign(error) else None
        if reason is None or not reason.passing:
            raise error
        soon = self._reachable_by if reason.code == "remote-unreachable" else None
        if soon is not None and time.monotonic() + self._pause >= soon:
            raise error
        if time.monotonic() + self._pause >= self._until:
            raise error
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


def started(work: Awaitable[T]) -> Future[T]:
    """Begin ``work`` on the libraries' event loop."""
    import asyncio

    from fsspec.asyn import get_loop

    async def whole() -> T:
        return await work

    return asyncio.run_coroutine_threadsafe(whole(), get_loop())


def called(url: Url, ask: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """What ``ask`` gives, asked again while it fails in passing.

    Raises as :func:`~lorapipe.remote.filesystem.faults`.
    """
    import asyncio  # 30 ms that a build without URLs can spare, as in all that such a one imports

    limits = Patience(patience(), beginning=True)

    async def insist() -> T:
        while True:
            try:
                return await asyncio.wait_for(ask(*arguments), limits.quiet)
            except Exception as error:  # noqa: BLE001, PERF203  # pause() raises what does not pass
                await limits.pause(error, url)

    with faults(url):
        return started(insist()).result()
