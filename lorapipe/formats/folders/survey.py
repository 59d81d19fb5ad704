"""Folders of weights: which files of one are the model, which go along with it, and which do not count.

Three sorts are known, by their names alone:

* a diffusers folder: ``model_index.json``, or sub-folders (``unet``, ``text_encoder``, ...) with a
  ``config.json`` and weights each;
* a PEFT folder: ``adapter_config.json`` and ``adapter_model.safetensors`` (or ``.bin``);
* any other: one set of weights, in one file or in several with an index.

Of the weights one set is used. The others (another variant, a ``.bin`` beside the safetensors) are
not part of the input, nor are weights of other programs, sub-folders with weights of their own,
hidden files. What is left (configs, tokenizer, licence) is, and an output folder carries it along.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from lorapipe.errors import InputError
from lorapipe.formats.containers.json_file import read_object
from lorapipe.formats.folders.listing import Folder, open_folder
from lorapipe.formats.folders.shards import INDEX, SHARD, Index, read_index
from lorapipe.formats.folders.weight_sets import WeightSet, choose, holds_weights, is_weights, sets_in
from lorapipe.remote.state import RemoteState
from lorapipe.remote.url import Location, Url

__all__ = ["PEFT_CONFIG", "FolderContents", "Part", "is_folder", "survey"]

PEFT_CONFIG = "adapter_config.json"
_MODEL_INDEX = "model_index.json"
_CONFIG = "config.json"

_CONFIG_LIMIT = 16 << 20
_LARGEST = 64 << 20
"""Bytes of a file that still goes along; a tokenizer's largest has half of it."""
_MOST_FILES = 5_000
_DEEPEST = 6

_COMPONENT = re.compile(r"(?:unet|transformer|text_encoder|vae)(?:_[0-9]+)?")
"""Components that pipelines have and nothing else is called."""

_NUMBERS = re.compile(r"-[0-9]{5,}-of-[0-9]{5,}")

_WITHOUT_WEIGHTS = ("Tokenizer", "Processor", "Extractor", "Scheduler")
"""Parts of the names of classes that have a config and no weights."""


@dataclass(frozen=True, slots=True)
class Part:
    """The weights of a component: the name of their files before the suffix, the files, the index of several.

    Files are relative to the folder that was named.
    """

    stem: str
    files: tuple[str, ...]
    index: Index | None = None


@dataclass(frozen=True, slots=True)
class FolderContents:
    """What of a folder counts: ``parts`` by component, ``""`` where the folder has none.

    ``carried`` are the files that go along, with their bytes; ``config`` is PEFT's;
    ``left_out`` what neither counts nor is plainly another's, for a warning.
    """

    folder: Folder
    parts: Mapping[str, Part]
    carried: Mapping[str, int]
    config: Mapping[str, object] | None = None
    left_out: tuple[str, ...] = ()

    @property
    def root(self) -> Location:
        return self.folder.path

    @property
    def weights(self) -> tuple[str, ...]:
        return tuple(file for part in self.parts.values() for file in part.files)

    @property
    def names(self) -> tuple[str, ...]:
        """Every file that is part of the input, in the order of names."""
        indices = (
            above + part.index.path.name
            for component, part in self.parts.items()
            if part.index
            for above in (f"{component}/" if component else "",)
        )
        return tuple(sorted({*self.weights, *indices, *self.carried}))

    @property
    def unnamed(self) -> tuple[str, ...]:
        """Shards beside those of an index that it does not name: of another download, or forgotten."""
        beside = (_beside(self.folder, set(part.files)) for part in self.parts.values() if part.index)
        return tuple(sorted(chain.from_iterable(beside)))

    @property
    def size(self) -> int:
        """Bytes of all these files."""
        return sum(map(self.folder.size, self.names))

    @property
    def states(self) -> Mapping[str, RemoteState]:
        """The states of all these files, if they are elsewhere."""
        return self.folder.states(self.names)


def is_folder(path: Location) -> bool:
    """Whether what a step loads is a folder: one, or the index of one's shards; a URL tells by its name."""
    there = path.is_folder if isinstance(path, Url) else path.is_dir()
    return there or INDEX.fullmatch(path.name) is not None


def survey(path: Location, variant: str | None = None) -> FolderContents:
    """Find what of a folder counts; an index stands for the folder that it lies in, with its shards.

    ``variant`` (``fp16``) is taken where a component has it; without it a component's plain
    weights, or its only ones. Weights are not opened.

    Raises :class:`~lorapipe.errors.InputError`: ``folder-without-weights``,
    ``component-without-weights``, ``several-weights``, ``no-such-variant``, ``index-missing``,
    ``folder-link``, ``folder-too-large``, ``config-not-json``, ``config-too-large``, and as
    :func:`~lorapipe.formats.folders.shards.read_index` and
    :func:`~lorapipe.formats.folders.listing.open_folder` do.
    """
    index = not (path.is_folder if isinstance(path, Url) else path.is_dir())
    folder = open_folder(path.parent if index else path)
    if index:
        return _contents(folder, {"": choose(folder.path, sets_in([path.name]), variant)})
    names = {member.name for member in folder.listed()}
    if not names and isinstance(path, Url):
        raise _unlisted(path)
    if PEFT_CONFIG in names:
        adapter = [found for found in sets_in(names) if found.stem == "adapter_model"]
        if not adapter:
            message = f"has an {PEFT_CONFIG} but no adapter_model.safetensors"
            raise _error(folder.path, "folder-without-weights", message)
        config = read_object(folder.file(PEFT_CONFIG), _CONFIG_LIMIT, "config")
        return _contents(folder, {"": choose(folder.path, adapter, variant)}, config)
    found = sets_in(names)
    known = any(s.known for s in found) and _MODEL_INDEX not in names
    components = {} if known else _components(folder, names)
    if components:
        return _contents(folder, _chosen(folder, components, variant))
    if not found and any(is_weights(name) and SHARD.fullmatch(Path(name).stem) for name in names):
        raise _error(folder.path, "index-missing", "holds shards of weights but not their index")
    if not found:
        raise _error(folder.path, "folder-without-weights", "holds no weights", _where_weights_are(folder))
    return _contents(folder, {"": choose(folder.path, found, variant)})


def _components(folder: Folder, names: set[str]) -> dict[str, list[WeightSet]]:
    """The sub-folders of a diffusers folder that hold a model, with the sets of weights in each.

    Without ``model_index.json`` one of them must have the name of a component: a folder of models,
    one in each sub-folder, is no pipeline.
    """
    classes = _classes(folder) if _MODEL_INDEX in names else {}
    components = {}
    for name in (member.name for member in folder.listed() if member.is_folder):
        inner = {member.name for member in folder.listed(name)}
        found = sets_in(inner) if _CONFIG in inner or name in classes else []
        if found:
            components[name] = found
        elif _CONFIG in inner and not any(
            word in classes.get(name, "Tokenizer") for word in _WITHOUT_WEIGHTS
        ):
            message = f"has no weights in '{name}'"
            raise _error(folder.path, "component-without-weights", message, "download it whole")
    if _MODEL_INDEX not in names and not any(map(_COMPONENT.fullmatch, components)):
        return {}
    return components


def _classes(folder: Folder) -> dict[str, str]:
    """The class of each component that ``model_index.json`` names."""
    found = read_object(folder.file(_MODEL_INDEX), _CONFIG_LIMIT, "config")
    pairs = {name: value for name, value in found.items() if isinstance(value, list) and len(value) == 2}
    return {name: str(pair[1]) for name, pair in pairs.items() if pair[0] is not None}


def _chosen(
    folder: Folder, components: Mapping[str, list[WeightSet]], variant: str | None
) -> dict[str, WeightSet]:
    """A set of weights for each component; the variant where it has one."""
    has = {name: any(found.variant == variant for found in sets) for name, sets in components.items()}
    if variant is not None and not any(has.values()):
        message = f"has no weights of the variant '{variant}' in any component"
        raise _error(folder.path, "no-such-variant", message)
    return {
        name: choose(folder.path / name, sets, variant if has[name] else None)
        for name, sets in components.items()
    }


def _contents(
    folder: Folder, chosen: Mapping[str, WeightSet], config: Mapping[str, object] | None = None
) -> FolderContents:
    parts = {component: _part(folder, component, found) for component, found in chosen.items()}
    rest = _Rest(folder, frozenset(parts))
    rest.collect("", 0)
    return FolderContents(
        folder, MappingProxyType(parts), MappingProxyType(rest.carried), config, tuple(rest.left_out)
    )


def _part(folder: Folder, component: str, found: WeightSet) -> Part:
    above = f"{component}/" if component else ""
    folder.file(above + found.file)
    if not found.index:
        return Part(found.stem, (above + found.file,))
    index = read_index(folder, above + found.file)
    return Part(found.stem, tuple(above + name for name in index.files), index)


def _beside(folder: Folder, files: Collection[str]) -> Iterator[str]:
    """Files in the folders of ``files`` that differ from one of these by a shard's numbers alone."""
    series = {_NUMBERS.sub("", file) for file in files if _NUMBERS.search(file)}
    for above in {PurePosixPath(file).parent for file in files}:
        for member in folder.listed("" if above == PurePosixPath() else str(above)):
            name = (above / member.name).as_posix()
            if name not in files and _NUMBERS.search(name) and _NUMBERS.sub("", name) in series:
                yield name


@dataclass(slots=True)
class _Rest:
    """The files that are no weights, collected folder by folder."""

    folder: Folder
    components: frozenset[str]
    carried: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def collect(self, above: str, depth: int) -> None:
        """Take in what lies in the folder ``above``, which ends in a slash unless it is the whole."""
        for member in self.folder.listed(above.rstrip("/")):
            name = above + member.name
            if not member.is_folder:
                self._file(name)
            elif member.is_link:
                message = f"has '{name}' link to a folder"
                raise _error(self.folder.path, "folder-link", message, "put the folder there")
            elif name not in self.components and holds_weights(m.name for m in self.folder.listed(name)):
                self.left_out.append(f"{name}/")
            elif depth == _DEEPEST:
                raise self._too_large(f"'{name}' lies deeper than {_DEEPEST} folders")
            else:
                self.collect(f"{name}/", depth + 1)

    def _file(self, name: str) -> None:
        if is_weights(Path(name).name) or INDEX.fullmatch(Path(name).name):
            return
        size = self.folder.size(name)
        if size > _LARGEST:
            self.left_out.append(name)
            return
        self.carried[name] = size
        if len(self.carried) > _MOST_FILES:
            raise self._too_large(f"it holds more than {_MOST_FILES} files")

    def _too_large(self, reason: str) -> InputError:
        return _error(
            self.folder.path,
            "folder-too-large",
            f"is no folder of one model: {reason}",
            "name the file of weights in it",
        )


def _where_weights_are(folder: Folder) -> str:
    """A hint for a folder that is one or two too high, as that of a download by huggingface_hub."""
    below = [member.name for member in folder.listed() if member.is_folder]
    deeper = (f"{name}/{m.name}" for name in below for m in folder.listed(name) if m.is_folder)
    for name in (*below, *deeper):
        if holds_weights(member.name for member in folder.listed(name)):
            return f"its folder '{name}' does"
    return "name a folder with a model in it, or a file of weights"


def _unlisted(url: Url) -> InputError:
    hint = "name a file in it: one of weights, or the index of several (...index.json)"
    return _error(url, "folder-not-listed", "a web server does not tell what lies in a folder", hint)


def _error(path: Location, code: str, message: str, hint: str = "download it whole") -> InputError:
    return InputError(code, message, hint=hint, where=str(path))
