"""A sign of life while a look takes its time; on a terminal alone, and gone when it is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console

__all__ = ["awaited"]

T = TypeVar("T")


def awaited(stages: Iterable[T], words: str, console: Console) -> Iterator[T]:
    """The stages as they come, with ``words`` on ``console`` while one is waited for.

    Nothing is drawn while a stage is being dealt with, so that what is printed of it stands clear.
    """
    left = iter(stages)
    while True:
        with console.status(words):
            stage = next(left, None)
        if stage is None:
            return
        yield stage
