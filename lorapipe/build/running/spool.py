"""Results that are too many for the memory wait on the disk until they are all there."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from lorapipe.errors import BuildError
from lorapipe.weights.specs import TensorSpec

if TYPE_CHECKING:
    from torch import Tensor

    from lorapipe.weights.structures.lazy import Lazy
    from lorapipe.weights.structures.structure import LowRank

__all__ = ["Spool"]


class Spool:
    """A file without a name in ``folder``: it is gone when nothing in it is used, or its process is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: _Unnamed | None = None

    def put_away(self, factors: LowRank) -> Lazy:
        """The same factors, read from the file for each use.

        Raises :class:`BuildError` ``disk-full`` or ``output-unwritable``.
        """
        from lorapipe.weights.structures.lazy import Lazy  # they need torch
        from lorapipe.weights.structures.structure import LowRank

        file = self._file = self._file or _Unnamed(self._folder)
        up, down = file.append(factors.up), file.append(factors.down)
        return Lazy(factors.shape, factors.rank, lambda: LowRank(file.tensor(*up), file.tensor(*down)))


class _Unnamed:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._fd, name = tempfile.mkstemp(dir=folder)
        weakref.finalize(self, os.close, self._fd)
        Path(name).unlink()
        self._end = 0
        self._lock = threading.Lock()

    def append(self, tensor: Tensor) -> tuple[int, TensorSpec]:
        """Write a tensor behind the others; where it is, and what it is."""
        from lorapipe.weights.tensors import NAMES, to_bytes  # they need torch

        view = to_bytes(tensor)
        with self._lock:
            start = self._end
            self._end += view.nbytes
        try:
            done = 0
            while done < view.nbytes:
                done += os.pwrite(self._fd, view[done:], start + done)
        except OSError as error:
            raise BuildError(
                "disk-full",
                f"results cannot wait in {self._folder}: {error.strerror}",
                hint="free some space, or build with more memory",
            ) from error
        return start, TensorSpec(NAMES[tensor.dtype], tuple(tensor.shape))

    def tensor(self, start: int, spec: TensorSpec) -> Tensor:
        from lorapipe.weights.tensors import from_bytes  # it needs torch

        buffer = bytearray(spec.nbytes)
        view, done = memoryview(buffer), 0
        while done < len(buffer):
            count = os.preadv(self._fd, [view[done:]], start + done)
            if not count:
                raise BuildError("disk-full", f"results that waited in {self._folder} are gone")
            done += count
        return from_bytes(buffer, spec)
