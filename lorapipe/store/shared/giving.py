"""Work on threads of its own, beside a build, which waits for it at the end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

__all__ = ["Giving", "Told"]

_THREADS = 2
"""One sends while the other asks what is there; more would take the line from each other."""

_TELL_S = 0.25

Told = Callable[[int, int], None]
"""Told the bytes that were sent, and those that are to be sent in all."""


class Giving:
    """Jobs, each with its size in bytes, that are done one after another by few threads.

    A job is handed what to call with each count of bytes that it has sent. The threads are daemons:
    who stops a program does not wait for them.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Callable[[Callable[[int], None]], None], int]] = deque()
        self._threads: set[threading.Thread] = set()
        self._sent = self._all = 0
        self._fault: Exception | None = None

    def later(self, job: Callable[[Callable[[int], None]], None], size: int) -> None:
        """Do a job soon."""
        with self._changed:
            self._waiting.append((job, size))
            self._all += size
            if len(self._threads) < _THREADS:
                thread = threading.Thread(target=self._work, name="lorapipe-share", daemon=True)
                self._threads.add(thread)
                thread.start()

    def finish(self, told: Told) -> None:
        """Wait until all is done; raises what a job raised, which is a mistake of the program."""
        with self._changed:
            while self._threads and self._fault is None:
                told(self._sent, self._all)
                self._changed.wait(_TELL_S)
            if self._all:
                told(self._all, self._all)
            self._sent = self._all = 0
            if self._fault is not None:
                raise self._fault

    def abandon(self) -> None:
        """Begin no more; what is under way ends with the program, or by itself."""
        with self._changed:
            self._waiting.clear()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting or self._fault is not None:
                    self._threads.discard(threading.current_thread())
                    self._changed.notify_all()
                    return
                job, size = self._waiting.popleft()
            already = 0

            def sent(count: int) -> None:
                nonlocal already
                with self._changed:
                    already += count
                    self._sent += count

            try:
                job(sent)
            except Exception as error:  # noqa: BLE001  # it is raised where somebody hears it
                with self._changed:
                    self._fault = error
            sent(size - already)  # what was there already needed no sending
