"""What the writers share: a stream that counts and hashes whatever passes through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, BinaryIO, Protocol

from lorapipe.errors import LorapipeError
from lorapipe.formats.containers.hashing import HashBeside
from lorapipe.weights.specs import TensorSpec

__all__ = ["Buffer", "Create", "OnBytes", "Sink", "TensorData", "Written", "in_step"]

Buffer = bytes | bytearray | memoryview
TensorData = Iterable[tuple[str, Iterable[Buffer]]]
"""Tensors in file order: a name and the little-endian bytes in as many pieces as one likes."""
OnBytes = Callable[[int], None]
"""Told the number of bytes after each piece of tensor data."""


class Create(Protocol):
    """Opens a new file of an output folder by its relative name; the one before it is then finished.

    ``size`` is about what the file will have, in bytes, where that is known.
    """

    def __call__(self, name: str, size: int | None = None) -> BinaryIO: ...


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file: its length in bytes and the sha256 of them, in hex."""

    size: int
    sha256: str


class Sink:
    """Writes to ``stream`` from first byte to last, never back: ``written()`` is then its digest.

    ``stream`` may be unbuffered (short writes are repeated) and need not be seekable.
    Pieces are hashed while they are written, and must not change after it. Raises ``OSError`` as
    the stream does (a full disk).
    """

    __slots__ = ("_hash", "_on_bytes", "_stream", "position")

    def __init__(self, stream: IO[bytes], on_bytes: OnBytes | None = None) -> None:
        self._stream = stream
        self._on_bytes = on_bytes
        self._hash = HashBeside()
        self.position = 0

    def write(self, piece: Buffer) -> None:
        view = memoryview(piece).cast("B")
        self._hash.update(view)
        self.position += view.nbytes
        while view.nbytes:
            # A raw stream tells how much it took, and may take nothing for now (None).
            view = view[self._stream.write(view) or 0 :]

    def tensor(self, name: str, spec: TensorSpec, pieces: Iterable[Buffer]) -> Iterator[Buffer]:
        """Write a tensor's data, yielding each piece as it goes by.

        Raises :class:`LorapipeError` when the pieces are not the tensor's size: the
        header, written already, would lie.
        """
        start = self.position
        for piece in pieces:
            self.write(piece)
            if self._on_bytes is not None:
                self._on_bytes(memoryview(piece).nbytes)
            yield piece
        if self.position - start != spec.nbytes:
            raise LorapipeError(
                "internal-wrong-size",
                f"{name}: {self.position - start} bytes were given to write, its spec says {spec.nbytes}",
            )

    def written(self) -> Written:
        return Written(self.position, self._hash.hexdigest())


def in_step(specs: Mapping[str, TensorSpec], data: TensorData) -> Iterator[tuple[str, Iterable[Buffer]]]:
    """Pass ``data`` on, checked to name the tensors of ``specs`` in their order."""
    given = iter(data)
    for name in specs:
        item = next(given, None)
        if item is None or item[0] != name:
            found = "nothing" if item is None else item[0]
            raise LorapipeError(
                "internal-wrong-order", f"{name} is to be written next, but {found} was given"
            )
        yield item
    extra = next(given, None)
    if extra is not None:
        raise LorapipeError("internal-wrong-order", f"{extra[0]} was given after the last tensor")
