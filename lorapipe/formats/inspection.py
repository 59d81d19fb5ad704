"""What a file of weights is, from its header and its alphas."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lorapipe.architectures import family as family_named
from lorapipe.errors import RecipeError
from lorapipe.formats.adapters.found import Found, Scale
from lorapipe.formats.adapters.read import BoundAdapter, bind_adapter, detect
from lorapipe.formats.adapters.safeloras import is_safeloras
from lorapipe.formats.checkpoints.read import read_checkpoint_spec
from lorapipe.formats.containers.safetensors import SafetensorsFile
from lorapipe.formats.containers.tensor_file import TensorFile
from lorapipe.formats.files import open_tensors
from lorapipe.formats.folders.tensor_folder import TensorFolder
from lorapipe.formats.layouts.naming import naming_of
from lorapipe.formats.training import base_model, training_notes
from lorapipe.remote.url import Location
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec

__all__ = ["Inspection", "inspect_file", "inspect_opened"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """A file's spec, its size in bytes, how many tensors it has of each dtype, its metadata.

    ``container`` is how the tensors are kept: ``safetensors``, ``pickle``, or ``folder`` with the
    ``files`` of weights in it. ``naming`` is whose names an adapter's modules have: ``kohya``,
    ``diffusers``, ``safeloras`` of numbered ones; ``None`` for a style of the file's own. ``forms``
    counts its modules by format, ``alphas`` by alpha, ``scales`` by what tells their strength: an
    alpha in the file, a number in its config, or nothing, which is 1. ``base`` and ``notes``: see
    :mod:`~lorapipe.formats.training`.
    """

    path: Location
    size: int
    dtypes: Mapping[str, int]
    metadata: Mapping[str, str]
    spec: AdapterSpec | CheckpointSpec
    container: str = "safetensors"
    files: tuple[str, ...] = ()
    naming: str | None = None
    forms: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[float, int] = field(default_factory=dict)
    scales: Mapping[str, int] = field(default_factory=dict)
    base: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


def inspect_file(path: Location, family: str | None = None) -> Inspection:
    """Read a file's header; ``family`` decides where the names leave it open.

    Raises as the readers do; their advice to say `family: sd1` becomes `--family sd1`.
    """
    with open_tensors(path) as source:
        return inspect_opened(source, path, family)


def inspect_opened(
    source: TensorFile | TensorFolder, path: Location, family: str | None = None
) -> Inspection:
    """What :func:`inspect_file` tells, of a file or folder that is open."""
    try:
        found = _found(source, family)
    except RecipeError as error:
        error.hint = None if error.hint is None else error.hint.replace("`family:", "`--family")
        raise
    dtypes = Counter(tensor.dtype for tensor in source.tensors.values())
    folder = isinstance(source, TensorFolder)
    kept = "folder" if folder else "safetensors" if isinstance(source, SafetensorsFile) else "pickle"
    files = source.contents.weights if isinstance(source, TensorFolder) else ()
    config = source.config if isinstance(source, TensorFolder) else None
    told = (path, source.size, dict(dtypes), dict(source.metadata))
    base, notes = base_model(source.metadata, config), training_notes(source.metadata)
    if isinstance(found, CheckpointSpec):
        return Inspection(*told, found, kept, files, base=base, notes=notes)
    modules = [(placed.spec.form, placed.found) for placed in found.placed.values()]
    return Inspection(
        *told,
        found.spec,
        kept,
        files,
        "safeloras" if is_safeloras(source.tensors) else _naming(found.spec),
        forms=dict(Counter("LoRA" if form is None else form.name for form, _ in modules)),
        alphas=_alphas(source, (found for _, found in modules)),
        scales=dict(Counter(_told(found.scale) for _, found in modules)),
        base=base,
        notes=notes,
    )


def _found(source: TensorSource, family: str | None) -> BoundAdapter | CheckpointSpec:
    if detect(source) == "lora":
        return bind_adapter(source, family)
    return read_checkpoint_spec(source, family)


def _naming(spec: AdapterSpec) -> str | None:
    if spec.family is None:
        return None
    return naming_of(family_named(spec.family), (known.spelling.stem for known in spec.modules.values()))


def _told(scale: Scale) -> str:
    if scale.alpha is not None or scale.factor is not None:
        return "alpha in the file"
    return "scale 1" if scale.config is None else f"scale {scale.config:g} by its config"


def _alphas(source: TensorSource, modules: Iterable[Found]) -> dict[float, int]:
    """How many modules have each alpha, where it can be told: of the tensors named so, or by the config."""
    counts: Counter[float] = Counter()
    for found in modules:
        scale = found.scale
        if scale.alpha is not None:
            value = _number(source, scale.alpha)
        elif scale.config is not None and scale.divisor is not None:
            value = scale.config * scale.divisor
        else:
            continue
        if value is not None:
            counts[value] += 1
    return dict(sorted(counts.items()))


_CODES = {"F64": "d", "F32": "f", "F16": "e", "I64": "q", "I32": "i", "I16": "h", "I8": "b", "U8": "B"}


def _number(source: TensorSource, name: str) -> float | None:
    """The one number of a tensor, without torch; ``None`` of a type that no trainer keeps an alpha in."""
    spec = source.tensors[name]
    if spec.size != 1:
        return None
    data = bytes(source.read(name))
    if spec.dtype == "BF16":
        return float(struct.unpack("<f", b"\0\0" + data)[0])
    return float(struct.unpack(f"<{_CODES[spec.dtype]}", data)[0]) if spec.dtype in _CODES else None
