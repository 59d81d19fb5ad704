"""Waiting for the network, by somebody who may be told meanwhile that all is over."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

__all__ = ["aside", "awaited"]

T = TypeVar("T")

_TURN_S = 0.1
"""Seconds after which who waits asks whether to go on."""


def awaited(future: Future[T], go_on: Callable[[], None]) -> T:
    """What comes of ``future``; ``go_on`` is called while that is waited for, and may raise to end it."""
    while not future.done():
        wait((future,), timeout=_TURN_S)
        go_on()
    return future.result()


def aside(go_on: Callable[[], None], ask: Callable[..., T], *arguments: Any) -> T:
    """What ``ask`` gives, on a thread of its own; who need not go on does not wait for its end."""
    pool = ThreadPoolExecutor(1, "lorapipe-ask")
    try:
        return awaited(pool.submit(ask, *arguments), go_on)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
