"""Which reader and which writer a file's suffix stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Protocol

from lorapipe.errors import RecipeError
from lorapipe.formats.containers.opened import open_file
from lorapipe.formats.containers.output import OnBytes, TensorData, Written
from lorapipe.formats.containers.pickles import TorchFile
from lorapipe.formats.containers.pickles_writer import write_pickle
from lorapipe.formats.containers.safetensors import SafetensorsFile
from lorapipe.formats.containers.safetensors_writer import library_order, write_safetensors
from lorapipe.formats.containers.sniff import is_torch
from lorapipe.formats.containers.tensor_file import TensorFile
from lorapipe.formats.folders.survey import is_folder, survey
from lorapipe.formats.folders.tensor_folder import TensorFolder
from lorapipe.remote.state import state
from lorapipe.remote.url import Location, Url
from lorapipe.weights.specs import TensorSpec

__all__ = ["SUFFIXES", "Writer", "names_folder", "open_tensors", "size_of", "writer_for"]

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".bin")
"""The endings that files of weights may have, in any case."""


class _Write(Protocol):
    def __call__(
        self,
        stream: IO[bytes],
        specs: Mapping[str, TensorSpec],
        data: TensorData,
        metadata: Mapping[str, str] = ...,
        on_bytes: OnBytes | None = None,
    ) -> Written: ...


@dataclass(frozen=True, slots=True)
class Writer:
    """A format to write: ``write(stream, specs, data, metadata, on_bytes)``.

    ``metadata`` tells whether the format keeps any.
    """

    write: _Write
    metadata: bool

    def order(self, specs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
        """The tensors of an adapter in the order in which they are written: the same in every format."""
        return library_order(specs)


_SAFETENSORS = Writer(write_safetensors, metadata=True)
_TORCH = Writer(write_pickle, metadata=False)


def open_tensors(path: Location, variant: str | None = None) -> TensorFile | TensorFolder:
    """Open a file of weights by its suffix, or a folder of them; close it, or use it as a context manager.

    What a web address without a suffix gives is told by its first bytes.

    ``variant`` (``fp16``) chooses among the weights of a folder. Raises :class:`RecipeError`
    ``unknown-suffix`` and, for what is in the file, :class:`~lorapipe.errors.InputError`: a file
    of the other kind is named as such.
    """
    if is_folder(path):
        return TensorFolder.open(path, variant)
    if variant is not None:
        raise RecipeError(
            "variant-of-a-file",
            f"'{path.name}' is a file, and has no variants",
            hint="leave 'variant' out",
            option="variant",
        )
    if isinstance(path, Url) and path.scheme in ("https", "http") and not path.suffix:
        return _by_content(path)
    if _suffix(path, "load") == ".safetensors":
        return SafetensorsFile.open(path)
    return TorchFile.open(path)


def _by_content(url: Url) -> TensorFile:
    """Open what a web address without a file's name gives (.../download/models/130072), by its bytes."""
    file = open_file(url)
    try:
        return (TorchFile if is_torch(file.head()) else SafetensorsFile).read_from(file)
    except BaseException:
        file.close()
        raise


def size_of(path: Location, variant: str | None = None) -> int:
    """Bytes of a file of weights, or of all that counts of a folder. Raises as :func:`open_tensors`."""
    if is_folder(path):
        return survey(path, variant).size
    return state(path).size if isinstance(path, Url) else path.stat().st_size


def names_folder(name: str) -> bool:
    """Whether the name of an output is that of a folder: it ends in a slash."""
    return name.endswith("/")


def writer_for(path: Location) -> Writer:
    """The writer for a file's suffix. Raises :class:`RecipeError` ``unknown-suffix``."""
    return _SAFETENSORS if _suffix(path, "to") == ".safetensors" else _TORCH


def _suffix(path: Location, option: str) -> str:
    suffix = path.suffix.lower()
    if suffix == ".gguf":
        raise RecipeError(
            "unknown-suffix",
            f"'{path.name}' is a GGUF file, which lorapipe neither reads nor writes",
            hint="use the model's release as .safetensors, and convert the result",
            option=option,
        )
    if suffix not in SUFFIXES:
        raise RecipeError(
            "unknown-suffix",
            f"'{path.name}' does not end like a file of weights",
            hint=f"such files end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}",
            option=option,
        )
    return suffix
