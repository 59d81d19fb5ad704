"""How work on many modules is spread: a ``map`` that the caller may do with workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

__all__ = ["Each", "PutAway", "in_memory", "serial"]

A = TypeVar("A")
B = TypeVar("B")


class PutAway(Protocol):
    """Takes a finished module's factors, and gives them as they can be had again."""

    def __call__(self, factors: Any, /) -> Any: ...


def in_memory(factors: Any) -> Any:
    """The factors themselves, which stay where they are."""
    return factors


class Each(Protocol):
    """Results of ``function`` in the order of ``items``, in whatever order they are made."""

    def __call__(self, function: Callable[[A], B], items: Iterable[A], /) -> Iterator[B]: ...


def serial(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """One after the other, each when it is asked for."""
    return map(function, items)
