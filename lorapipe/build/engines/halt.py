"""How threads hear that all is over: who waits, writes or hashes ends, and cleans up on the way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, wait
from contextlib import suppress
from typing import Any, TypeVar

from typing_extensions import ParamSpec

from lorapipe.errors import Halted

__all__ = ["Halt", "Halted"]

P = ParamSpec("P")
T = TypeVar("T")


class Halt:
    """Whether all is to stop: one thread asks, the others look between two steps of their work."""

    def __init__(self) -> None:
        self._asked: Future[None] = Future()

    def ask(self) -> None:
        """Let every other thread end, by :class:`Halted`."""
        with suppress(InvalidStateError):
            self._asked.set_result(None)

    def forget(self) -> None:
        """Begin anew, when all threads that were asked have ended."""
        self._asked = Future()

    def go_on(self) -> None:
        """Raise :class:`Halted` if all is to stop."""
        if self._asked.done():
            raise Halted

    def result(self, begun: Future[T]) -> T:
        """Wait for what another thread makes. Raises what that raised, and :class:`Halted`."""
        if not begun.done():
            either: tuple[Future[Any], ...] = (begun, self._asked)
            wait(either, return_when=FIRST_COMPLETED)
        self.go_on()
        return begun.result()

    def after(self, call: Callable[P, None]) -> Callable[P, None]:
        """``call``, after which is asked whether to go on."""

        def called(*args: P.args, **named: P.kwargs) -> None:
            call(*args, **named)
            self.go_on()

        return called
