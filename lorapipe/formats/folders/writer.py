"""Writing a checkpoint as a folder: which tensors go to which file, and what goes along."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import PurePosixPath
from types import MappingProxyType

from lorapipe.formats.containers.opened import open_file
from lorapipe.formats.containers.output import Create, OnBytes, Sink, TensorData, Written, in_step
from lorapipe.formats.containers.safetensors_writer import write_safetensors
from lorapipe.formats.folders.listing import member
from lorapipe.formats.folders.shards import index_text, shards_of
from lorapipe.remote.url import Location
from lorapipe.store.contents import listing_digest
from lorapipe.weights.specs import CheckpointSpec, FileSpec, FolderSpec, TensorSpec

__all__ = [
    "SHARD_SIZE",
    "FolderSource",
    "WrittenFolder",
    "folder_spec",
    "index_texts",
    "missing",
    "write_folder",
    "write_member",
]

SHARD_SIZE = 5_000_000_000
"""Bytes of data that a file has at most unless the recipe says otherwise: transformers' own choice."""

_PIECE = 1 << 20
_FORMAT = "format"

_NEEDED = re.compile(
    r".*\.(?:json|txt|model|jinja|py|tiktoken|vocab|bpe)|(?:licen[cs]e|notice).*", re.IGNORECASE
)
"""Files that a loader may need, or that the law wants to go along."""


@dataclass(frozen=True, slots=True)
class WrittenFolder:
    """A finished folder: its bytes, and the sha256 of each file by relative name."""

    size: int
    files: Mapping[str, str]

    @property
    def sha256(self) -> str:
        return listing_digest(self.files)


def folder_spec(spec: CheckpointSpec, tensors: Mapping[str, TensorSpec], most: int) -> FileSpec:
    """The folder that a checkpoint becomes; ``tensors`` are those saved, in their order.

    The components, the names of files and what goes along are those of the folder that it came
    from. Of any other checkpoint all tensors are in ``model.safetensors`` or its shards, of at most
    ``most`` bytes of data each. What only describes the model is left out of a ``hidden`` one's.
    """
    stems = {"": "model"} if spec.folder is None else spec.folder.stems
    files: dict[str, tuple[str, ...]] = {}
    for component, names in groupby(tensors, key=lambda name: _component(name, stems)):
        above = f"{component}/" if component else ""
        own = {name: tensors[name] for name in names}
        files |= {above + file: held for file, held in shards_of(own, stems[component], most).items()}
    carried = {} if spec.folder is None else spec.folder.carried
    others = {name: size for name, size in carried.items() if not spec.hidden or _needed(name)}
    written = FileSpec(tensors, files=MappingProxyType(files))
    indices = {name: len(text) for name, text in index_texts(written).items()}
    return FileSpec(tensors, files=written.files, others=MappingProxyType({**others, **indices}))


def _component(name: str, stems: Mapping[str, str]) -> str:
    return "" if "" in stems else name.partition("/")[0]


def _needed(name: str) -> bool:
    return _NEEDED.fullmatch(PurePosixPath(name).name) is not None


def index_texts(spec: FileSpec) -> dict[str, bytes]:
    """The indices that a folder needs, by relative name: one for each set of shards."""
    texts: dict[str, bytes] = {}
    for folder, names in groupby(spec.files, key=lambda file: PurePosixPath(file).parent):
        files = list(names)
        if len(files) > 1:
            bare = {PurePosixPath(file).name: [_inner(file, n) for n in spec.files[file]] for file in files}
            size = sum(spec.tensors[name].nbytes for file in files for name in spec.files[file])
            stem = PurePosixPath(files[0]).name.rpartition("-00001-of-")[0]
            texts[(folder / f"{stem}.safetensors.index.json").as_posix()] = index_text(bare, size)
    return texts


def _inner(file: str, name: str) -> str:
    """A tensor's name within its file: that of the component is the folder's."""
    above, _, _ = file.rpartition("/")
    return name.removeprefix(f"{above}/") if above else name


@dataclass(frozen=True, slots=True)
class FolderSource:
    """What is written besides weights: texts by name, and files of ``folder`` copied byte for byte."""

    texts: Mapping[str, bytes]
    folder: Location | None = None
    copied: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: FileSpec, folder: FolderSpec | None) -> FolderSource:
        """The indices of a checkpoint's folder, and the files that go along."""
        texts = index_texts(spec)
        copied = tuple(name for name in spec.others if name not in texts)
        return cls(texts, None if folder is None else folder.path, copied)


def _forget(name: str, written: Written) -> None:
    pass


def write_folder(  # noqa: PLR0913  # what a folder is made of, and what is told of it
    create: Create,
    spec: FileSpec,
    data: TensorData,
    metadata: Mapping[str, str],
    besides: FolderSource,
    on_bytes: OnBytes | None = None,
    *,
    finished: Mapping[str, Written] = MappingProxyType({}),
    finish: Callable[[str, Written], None] = _forget,
) -> WrittenFolder:
    """Write the files of ``spec``, ``data`` in the order of its tensors, one piece in memory at a time.

    ``metadata`` as in :func:`write_member`. Files of weights that are ``finished`` are there already,
    and ``data`` lacks their tensors; ``finish`` is told of each other one as it ends.

    Raises ``OSError`` as the files do, and as :func:`~.safetensors_writer.write_safetensors`.
    """
    files: dict[str, str] = {}
    size = 0
    given = in_step({name: spec.tensors[name] for name in missing(spec, finished)}, data)
    for file, names in spec.files.items():
        if file in finished:
            written = finished[file]
            if on_bytes is not None:
                on_bytes(spec.nbytes_of(file))
        else:
            written = write_member(create, spec, file, islice(given, len(names)), metadata, on_bytes)
            finish(file, written)
        files[file], size = written.sha256, size + written.size
    for _ in given:  # which says so if there is more
        pass
    for file, pieces in _besides(besides):
        sink = Sink(create(file))
        for piece in pieces:
            sink.write(piece)
            if on_bytes is not None:
                on_bytes(len(piece))
        files[file], size = sink.written().sha256, size + sink.position
    return WrittenFolder(size, MappingProxyType(files))


def write_member(
    create: Create,
    spec: FileSpec,
    file: str,
    data: TensorData,
    metadata: Mapping[str, str],
    on_bytes: OnBytes | None = None,
) -> Written:
    """Write one of the files of ``spec`` just as :func:`write_folder` would; ``data`` are its tensors.

    ``metadata`` is that of the first file. Each other one, and the first if ``metadata`` has none,
    says ``format: pt``, without which transformers refuses a file.
    """
    told = {_FORMAT: "pt", **metadata}
    if file != next(iter(spec.files)):
        told = {_FORMAT: told[_FORMAT]}
    inner = {_inner(file, name): spec.tensors[name] for name in spec.files[file]}
    own = ((_inner(file, name), pieces) for name, pieces in data)
    return write_safetensors(create(file, spec.nbytes_of(file)), inner, own, told, on_bytes)


def missing(spec: FileSpec, finished: Collection[str]) -> Iterator[str]:
    """The tensors of the files that are not there yet, in the order of ``spec``."""
    return (name for file, names in spec.files.items() if file not in finished for name in names)


def _besides(besides: FolderSource) -> Iterator[tuple[str, Iterable[bytes | bytearray]]]:
    for name, text in besides.texts.items():
        yield name, (text,)
    for name in besides.copied:
        assert besides.folder is not None
        yield name, _pieces(member(besides.folder, name))


def _pieces(path: Location) -> Iterator[bytearray]:
    with open_file(path) as file:
        for start in range(0, file.size, _PIECE):
            yield file.read(start, min(_PIECE, file.size - start))
