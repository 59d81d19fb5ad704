"""How work on many modules is spread: a ``map`` that the caller may do with workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

__all__ = ["Each", "serial"]

A = TypeVar("A")
B = TypeVar("B")


class Each(Protocol):
    """Results of ``function`` in the order of ``items``, in whatever order they are made."""

    def __call__(self, function: Callable[[A], B], items: Iterable[A], /) -> Iterator[B]: ...


def serial(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """One after the other, each when it is asked for."""
    return map(function, items)
