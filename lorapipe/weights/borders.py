"""The border of a module: errors that cross it learn its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lorapipe.errors import LorapipeError
from lorapipe.weights.specs import ModuleId

__all__ = ["inside"]


@contextmanager
def inside(module: ModuleId | str) -> Iterator[None]:
    """Name ``module`` (or a checkpoint's key) in the errors of the block."""
    try:
        yield
    except LorapipeError as error:
        raise error.located(module=str(module)) from None
