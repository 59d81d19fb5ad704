"""Checkpoints in several files: the index that says which tensor is in which.

``model.safetensors.index.json`` of huggingface/transformers and diffusers: a JSON object whose
``weight_map`` maps each tensor to the name of a file beside the index. Every claim of it is
checked: it comes from a stranger, and it names files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType

from lorapipe.formats.containers.json_file import read_object
from lorapipe.formats.folders.listing import Folder
from lorapipe.formats.problems import Problems
from lorapipe.remote.url import Location
from lorapipe.weights.specs import TensorSpec

__all__ = ["INDEX", "INDEX_LIMIT", "SHARD", "Index", "check_shards", "index_text", "read_index", "shards_of"]

INDEX = re.compile(
    r"(?P<stem>.+?)\.(?P<suffix>safetensors|bin)\.(?:index(?:\.(?P<late>[^.]+))?|(?P<early>[^.]+)\.index)\.json"
)
"""Names of an index; transformers puts a variant behind ``index``, diffusers before it."""

SHARD = re.compile(r".+-[0-9]{5,}-of-[0-9]{5,}(?:\.[^.]+)?")
"""Names of shards, less their suffix; a variant stands before the number or behind it."""

INDEX_LIMIT = 64 << 20
"""Bytes that an index may have; the largest known ones have 10 MB."""

_SUFFIXES = (".safetensors", ".bin", ".pt", ".ckpt")
_MAKER = "the program that wrote the index is at fault"
_LOAD = "download the folder again, whole"


@dataclass(frozen=True, slots=True)
class Index:
    """An index as read: its path, and the tensors of each file, whose names are relative to its folder."""

    path: Location
    files: Mapping[str, tuple[str, ...]]


def read_index(folder: Folder, name: str) -> Index:
    """Read and check the index ``name`` of a folder, and that its files are there; they are not opened.

    Raises :class:`~lorapipe.errors.InputError`: ``index-too-large``, ``index-not-json``,
    ``index-malformed``, ``index-names-outside``, ``index-names-no-weights``,
    ``index-names-twice``, ``shards-missing``, each with what has it counted;
    :class:`~lorapipe.errors.ManyErrors` of several.
    """
    path = folder.file(name)
    found = read_object(path, INDEX_LIMIT, "index").get("weight_map")
    problems = Problems(path)
    if not isinstance(found, dict) or not found or not all(isinstance(f, str) for f in found.values()):
        message = "it has no weight_map of tensors' names to files' names"
        problems.say("index-malformed", message, path.name, "is it the right file?")
    problems.check()
    assert isinstance(found, dict)
    files: dict[str, list[str]] = {}
    for tensor, file in found.items():
        files.setdefault(str(file), []).append(tensor)
    plain = {file: _plain(file) for file in files}
    _check_names(folder, PurePosixPath(name).parent, plain, problems)
    return Index(path, MappingProxyType({str(plain[file]): tuple(files[file]) for file in sorted(files)}))


def _plain(name: str) -> PurePosixPath | None:
    """A file's name without ``./`` and ``//``; ``None`` if it leads out of the folder, or is no name."""
    path = PurePosixPath(name)
    bad = path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or "\\" in name
    return None if bad else path


def _check_names(
    folder: Folder, above: PurePosixPath, plain: Mapping[str, PurePosixPath | None], problems: Problems
) -> None:
    seen = set[object]()
    there = [str(above / path) for path in plain.values() if path is not None]
    held = folder.held(there)
    for name, path in plain.items():
        file = None if path is None else str(above / path)
        if path is None or file is None:
            message = "the index names {n} file{s} outside of its folder"
            problems.say("index-names-outside", message, repr(name), "do not trust where it comes from")
        elif path.suffix.lower() not in _SUFFIXES:
            problems.say(
                "index-names-no-weights", "the index names {n} file{s} that hold no weights", name, _MAKER
            )
        elif file not in held:
            problems.say(
                "shards-missing", f"{{n}} of {len(plain)} files that the index names are missing", name, _LOAD
            )
        else:
            folder.file(file)
            identity = folder.identity(file)
            if identity in seen:
                message = "the index names {n} file{s} that it has under another name, too"
                problems.say("index-names-twice", message, name, _MAKER)
            seen.add(identity)
    problems.check()


def check_shards(index: Index, held: Mapping[str, Iterable[str]]) -> None:
    """See that each shard holds the tensors that the index says, no less and no more.

    ``held`` maps each file of the index to the tensors in it. Raises
    :class:`~lorapipe.errors.InputError` ``tensors-not-in-shard`` or ``tensors-not-in-index``,
    :class:`~lorapipe.errors.ManyErrors` of both.
    """
    problems = Problems(index.path)
    for file, tensors in index.files.items():
        present, named = set(held[file]), set(tensors)
        for tensor in tensors:
            if tensor not in present:
                message = "{n} tensor{s} that the index puts into a file that has no such"
                problems.say("tensors-not-in-shard", message, f"{tensor} ({file})", _LOAD)
        for tensor in held[file]:
            if tensor not in named:
                message = "{n} tensor{s} in a file without being there by the index"
                problems.say("tensors-not-in-index", message, f"{tensor} ({file})", _MAKER)
    problems.check()


def shards_of(tensors: Mapping[str, TensorSpec], stem: str, most: int) -> dict[str, tuple[str, ...]]:
    """The files that tensors go to, in their order, each of at most ``most`` bytes of data.

    A tensor that is larger has a file of its own. One file is ``<stem>.safetensors``, several are
    ``<stem>-00001-of-00003.safetensors`` and so on: names and rule are those of huggingface_hub's
    ``split_torch_state_dict_into_shards``, but for tensors larger than ``most``, which it puts first.
    """
    shards = list(_filled(tensors, most))
    if len(shards) == 1:
        return {f"{stem}.safetensors": shards[0]}
    return {
        f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors": names
        for number, names in enumerate(shards, start=1)
    }


def _filled(tensors: Mapping[str, TensorSpec], most: int) -> Iterator[tuple[str, ...]]:
    names: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        if names and size + tensor.nbytes > most:
            yield tuple(names)
            names, size = [], 0
        names.append(name)
        size += tensor.nbytes
    yield tuple(names)


def index_text(files: Mapping[str, Iterable[str]], size: int) -> bytes:
    """The index of several files of weights; ``size`` is the bytes of data in all of them."""
    places = {tensor: file for file, tensors in files.items() for tensor in tensors}
    index = {"metadata": {"total_size": size}, "weight_map": places}
    return (json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")
