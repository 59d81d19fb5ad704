"""The hashes by which web UIs and model sites know a file.

*Sources*: AUTOMATIC1111/stable-diffusion-webui ``modules/hashes.py`` and
``sd_models.model_hash`` (AutoV2, AutoV1); the same program's additional networks
``addnet_hash_safetensors`` (AutoV3), which model sites cut to 12 digits; for ``sshs`` see
:mod:`~lorapipe.formats.layouts.model_hashes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lorapipe.formats.containers.opened import open_file
from lorapipe.formats.containers.output import TensorData
from lorapipe.formats.containers.safetensors import SafetensorsFile
from lorapipe.formats.containers.safetensors_writer import library_order
from lorapipe.formats.folders.survey import is_folder
from lorapipe.formats.layouts.model_hashes import model_hashes
from lorapipe.remote.url import Location
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import TensorSpec

__all__ = ["FileHashes", "file_hashes", "short_hashes"]

_V1_FROM, _V1_LENGTH = 0x100000, 0x10000
_PIECE = 1 << 22


@dataclass(frozen=True, slots=True)
class FileHashes:
    """``sha256`` of a file, or of a folder's list, and what programs make of it; ``""`` is not known.

    AutoV1 is of 64 KiB of a file, AutoV2 the beginning of its sha256; a folder has neither. ``data``
    is the sha256 of all that follows a safetensors header, whose beginning is AutoV3. ``sshs``
    and ``sshs_legacy`` are kohya's, over the same tensors beside the training's own metadata.
    """

    sha256: str
    autov1: str = ""
    data: str = ""
    sshs: str = ""
    sshs_legacy: str = ""

    @property
    def autov2(self) -> str:
        return self.sha256[:10] if self.autov1 else ""

    @property
    def autov3(self) -> str:
        return self.data[:12]


def file_hashes(source: TensorSource, path: Location, sha256: str) -> FileHashes:
    """The hashes of an open file whose ``sha256`` is known; ``data`` and kohya's of safetensors only.

    Reads the data once, or twice where another program than the safetensors library ordered it.
    """
    short = short_hashes(path, sha256)
    if not isinstance(source, SafetensorsFile):
        return short
    ordered = library_order(source.tensors)
    kohya = model_hashes(ordered, _data(source, ordered), source.metadata)
    # The library's order is the file's, as a rule: then both hashes are over the same bytes.
    data = kohya["sshs_model_hash"]
    if list(ordered) != list(source.tensors):
        digest = hashlib.sha256()
        for _, pieces in _data(source, source.tensors):
            for piece in pieces:
                digest.update(piece)
        data = digest.hexdigest()
    return FileHashes(sha256, short.autov1, data, kohya["sshs_model_hash"], kohya["sshs_legacy_hash"])


def short_hashes(path: Location, sha256: str) -> FileHashes:
    """The hashes that need no reading of more than 64 KiB, from 1 MiB on, where the sha256 is known."""
    if is_folder(path):
        return FileHashes(sha256)
    with open_file(path) as file:
        begin = min(_V1_FROM, file.size)
        some = file.read(begin, min(_V1_LENGTH, file.size - begin))
    return FileHashes(sha256, hashlib.sha256(some).hexdigest()[:8])


def _data(source: TensorSource, specs: Mapping[str, TensorSpec]) -> TensorData:
    return ((name, _pieces(source, name, spec)) for name, spec in specs.items())


def _pieces(source: TensorSource, name: str, spec: TensorSpec) -> Iterator[bytearray]:
    """A tensor's bytes, some rows at a time."""
    if not spec.shape or not spec.nbytes:
        yield source.read(name)
        return
    step = max(1, _PIECE * spec.shape[0] // spec.nbytes)
    for start in range(0, spec.shape[0], step):
        yield source.read(name, start, min(start + step, spec.shape[0]))
