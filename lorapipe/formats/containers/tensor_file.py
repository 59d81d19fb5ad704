"""What the readers of all formats share: a file of named tensors, opened, looked into, closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from lorapipe.formats.containers.opened import Readable, open_file
from lorapipe.remote.url import Location
from lorapipe.weights.specs import TensorSpec

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["TensorFile"]


class TensorFile(ABC):
    """A file as a :class:`~lorapipe.weights.sources.TensorSource`; a format adds how to read it.

    A format's ``__init__`` takes the opened file, checks it whole, and hands over its
    tensors in file order. Close it, or use it as a context manager; it closes itself when
    it is forgotten.
    """

    __slots__ = ("_file", "_metadata", "_tensors")

    def __init__(
        self, file: Readable, tensors: Mapping[str, TensorSpec], metadata: Mapping[str, str]
    ) -> None:
        self._file = file
        self._tensors = MappingProxyType(dict(tensors))
        self._metadata = MappingProxyType(dict(metadata))

    @classmethod
    @abstractmethod
    def read_from(cls, file: Readable) -> Self:
        """The tensors of an opened file. Raises :class:`InputError`, a code for each fault."""

    @abstractmethod
    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytearray:
        """As :meth:`~lorapipe.weights.sources.TensorSource.read`."""

    @classmethod
    def open(cls, path: Location) -> Self:
        """Open and check. Raises :class:`InputError`, a code for each fault."""
        file = open_file(path)
        try:
            return cls.read_from(file)
        except BaseException:
            file.close()
            raise

    @property
    def path(self) -> Location:
        return self._file.path

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._file.size

    @property
    def tensors(self) -> Mapping[str, TensorSpec]:
        return self._tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        return self._metadata

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
