"""The port through which weights are read: a file's tensors, one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lorapipe.weights.specs import TensorSpec

__all__ = ["TensorSource"]


class TensorSource(Protocol):
    """Named tensors that are read when asked for, never all at once.

    ``tensors`` is in the file's own order. ``read`` gives the little-endian bytes
    of rows ``start`` to ``stop`` of a tensor (all of it by default; a 0-d tensor
    has no rows) in a buffer that the caller owns and may write to. It is safe to
    call from several threads. Raises :class:`~lorapipe.errors.InputError` when the
    file has changed or is cut short.
    """

    @property
    def tensors(self) -> Mapping[str, TensorSpec]: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytearray: ...
