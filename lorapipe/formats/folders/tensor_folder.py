"""A folder of weights as one source of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from types import MappingProxyType
from typing import TYPE_CHECKING

from lorapipe.errors import InputError
from lorapipe.formats.containers.pickles import TorchFile
from lorapipe.formats.containers.safetensors import SafetensorsFile
from lorapipe.formats.containers.tensor_file import TensorFile
from lorapipe.formats.folders.shards import check_shards
from lorapipe.formats.folders.survey import FolderContents, survey
from lorapipe.remote.url import Location, Url
from lorapipe.weights.specs import FolderSpec, TensorSpec

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["TensorFolder"]

_AT_ONCE = 16
"""Headers that are read at the same time."""


class TensorFolder:
    """The weights of a folder as a :class:`~lorapipe.weights.sources.TensorSource`.

    Tensors of a component are named ``<component>/<tensor>``, others as their files name them.
    They are in the order of components, of files, and within each in file order. ``metadata``
    is that of all files, of the first that has a key. ``config`` is what a PEFT folder's
    ``adapter_config.json`` says. Close it, or use it as a context manager; its files close
    themselves when they are forgotten.
    """

    __slots__ = ("_contents", "_opened", "_places", "metadata", "path", "tensors")

    path: Location
    tensors: Mapping[str, TensorSpec]
    metadata: Mapping[str, str]

    def __init__(self, path: Location, contents: FolderContents, opened: Mapping[str, TensorFile]) -> None:
        self.path = path
        self._contents = contents
        self._opened = opened
        self._places = {
            _full(component, name): (opened[file], name)
            for component, part in contents.parts.items()
            for file in part.files
            for name in opened[file].tensors
        }
        self.tensors = MappingProxyType(
            {full: file.tensors[name] for full, (file, name) in self._places.items()}
        )
        files = reversed([opened[file] for file in contents.weights])
        self.metadata = MappingProxyType({key: text for file in files for key, text in file.metadata.items()})

    @classmethod
    def open(cls, path: Location, variant: str | None = None) -> Self:
        """Survey the folder, and then as :meth:`of`."""
        return cls.of(path, survey(path, variant))

    @classmethod
    def of(cls, path: Location, contents: FolderContents) -> Self:
        """Open every file of weights, and hold the shards against their index.

        Raises :class:`~lorapipe.errors.InputError` as :func:`~lorapipe.formats.folders.survey`,
        :func:`~lorapipe.formats.folders.shards.check_shards` and the readers do, files named.
        """
        with ExitStack() as stack:
            opened = {file: stack.enter_context(source) for file, source in _all_opened(contents)}
            for component, part in contents.parts.items():
                if part.index is not None:
                    check_shards(
                        part.index, {_bare(component, file): opened[file].tensors for file in part.files}
                    )
            stack.pop_all()
        return cls(path, contents, MappingProxyType(opened))

    @property
    def size(self) -> int:
        """Bytes of all files that are part of the input."""
        return self._contents.size

    @property
    def contents(self) -> FolderContents:
        """What of the folder counts."""
        return self._contents

    @property
    def config(self) -> Mapping[str, object] | None:
        return self._contents.config

    @property
    def folder(self) -> FolderSpec:
        """What a checkpoint remembers of the folder."""
        contents = self._contents
        stems = {component: part.stem for component, part in contents.parts.items()}
        return FolderSpec(contents.root, MappingProxyType(stems), contents.carried, contents.left_out)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytearray:
        """As :meth:`~lorapipe.weights.sources.TensorSource.read`."""
        file, inner = self._places[name]
        return file.read(inner, start, stop)

    def close(self) -> None:
        for file in self._opened.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _full(component: str, name: str) -> str:
    return f"{component}/{name}" if component else name


def _bare(component: str, file: str) -> str:
    return file.removeprefix(f"{component}/") if component else file


def _all_opened(contents: FolderContents) -> Iterator[tuple[str, TensorFile]]:
    """Every file of weights by name; of a folder elsewhere several are opened at the same time."""
    files = contents.weights
    if not isinstance(contents.root, Url) or len(files) == 1:
        yield from ((file, _opened(contents.root, file)) for file in files)
        return
    with ThreadPoolExecutor(_AT_ONCE, "headers") as pool:
        yield from zip(files, pool.map(_opened, repeat(contents.root), files), strict=True)


def _opened(root: Location, file: str) -> TensorFile:
    """One of the files, its errors said of the folder: which file it is stands in the message."""
    path = root / file
    try:
        return SafetensorsFile.open(path) if path.suffix.lower() == ".safetensors" else TorchFile.open(path)
    except InputError as error:
        raise InputError(error.code, f"{file}: {error.message}", hint=error.hint, where=str(root)) from error
