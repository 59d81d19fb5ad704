"""Two files or folders of weights held against each other, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorapipe.errors import LorapipeError
from lorapipe.formats.files import SUFFIXES, open_tensors
from lorapipe.remote.url import Location
from lorapipe.store.contents import walk
from lorapipe.store.digest import sha256_file
from lorapipe.weights.blocks import BLOCK_ELEMENTS
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import TensorSpec

if TYPE_CHECKING:
    from lorapipe.weights.closeness import Closeness

__all__ = ["Comparison", "TensorDifference", "compare"]


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """A tensor whose values are others: how many, and by how much."""

    name: str
    spec: TensorSpec
    closeness: Closeness


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is otherwise in a new file or folder than in an old one; ``tensors`` is how many both have.

    ``structure`` says in words which tensors came, went or are of another type; ``besides`` which
    entries of the header, and of a folder which files without weights.
    """

    tensors: int
    differing: tuple[TensorDifference, ...] = ()
    structure: tuple[str, ...] = ()
    besides: tuple[str, ...] = ()

    @property
    def same_numbers(self) -> bool:
        """Whether every tensor is in both, with the same bits."""
        return not self.differing and not self.structure


def compare(old: Location, new: Location) -> Comparison:
    """Compare two files of weights, or two folders, a few rows of a tensor at a time.

    Raises :class:`~lorapipe.errors.InputError` for what cannot be read.
    """
    with open_tensors(old) as before, open_tensors(new) as after:
        both = [name for name in before.tensors if before.tensors[name] == after.tensors.get(name)]
        differing = tuple(_differing(before, after, both))
        structure = tuple(_structure(before.tensors, after.tensors))
        besides = tuple(_header(before.metadata, after.metadata))
    if isinstance(old, Path) and isinstance(new, Path) and old.is_dir() and new.is_dir():
        besides = (*besides, *_other_files(old, new))
    return Comparison(len(both), differing, structure, besides)


def _differing(old: TensorSource, new: TensorSource, names: list[str]) -> Iterator[TensorDifference]:
    from lorapipe.weights.closeness import Closeness  # it needs torch

    for name in names:
        spec = old.tensors[name]
        whole = sum((_slab(old, new, name, spec, rows) for rows in _slabs(spec)), start=Closeness(0))
        if whole.differing:
            yield TensorDifference(name, spec, whole)


def _slabs(spec: TensorSpec) -> Iterator[tuple[int, int | None]]:
    """Rows to read at a time: about a block of elements, whole rows."""
    if not spec.shape:
        yield 0, None
        return
    height = spec.shape[0]
    step = max(1, BLOCK_ELEMENTS * height // max(spec.size, 1))
    for start in range(0, height, step):
        yield start, min(start + step, height)


def _slab(
    old: TensorSource, new: TensorSource, name: str, spec: TensorSpec, rows: tuple[int, int | None]
) -> Closeness:
    from lorapipe.weights.closeness import Closeness, closeness  # they need torch
    from lorapipe.weights.tensors import from_bytes

    start, stop = rows
    one, other = old.read(name, start, stop), new.read(name, start, stop)
    part = TensorSpec(spec.dtype, spec.shape if stop is None else (stop - start, *spec.shape[1:]))
    return Closeness(part.size) if one == other else closeness(from_bytes(one, part), from_bytes(other, part))


def _structure(old: Mapping[str, TensorSpec], new: Mapping[str, TensorSpec]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if was is None or now is None:
            yield f"{name}: {'gone' if now is None else 'new'}"
        elif was != now:
            yield f"{name}: {_spec(was)} -> {_spec(now)}"


def _spec(spec: TensorSpec) -> str:
    return f"{spec.dtype} {'x'.join(map(str, spec.shape))}".rstrip()


def _header(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"metadata {name}"


def _other_files(old: Path, new: Path) -> Iterator[str]:
    before, after = dict(walk(old)), dict(walk(new))
    for name in sorted(before.keys() | after.keys()):
        if Path(name).suffix.lower() in SUFFIXES:
            continue  # its tensors are compared
        if name not in before or name not in after or not _same_file(old / name, new / name):
            yield f"file {name}"


def _same_file(old: Path, new: Path) -> bool:
    with suppress(LorapipeError):
        return sha256_file(old) == sha256_file(new)
    return False
