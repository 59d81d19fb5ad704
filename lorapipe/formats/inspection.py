"""What a file of weights is, from its header."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lorapipe.errors import RecipeError
from lorapipe.formats.adapters.found import Scale
from lorapipe.formats.adapters.read import BoundAdapter, bind_adapter, detect
from lorapipe.formats.checkpoints.read import read_checkpoint_spec
from lorapipe.formats.files import open_tensors
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec

__all__ = ["Inspection", "inspect_file"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """A file's spec, its size in bytes, how many tensors it has of each dtype, its metadata.

    ``forms`` counts an adapter's modules by format, ``scales`` by what tells their strength,
    as far as headers do: an alpha in the file, a number in its config, or nothing, which is 1.
    """

    path: Path
    size: int
    dtypes: Mapping[str, int]
    metadata: Mapping[str, str]
    spec: AdapterSpec | CheckpointSpec
    forms: Mapping[str, int] = field(default_factory=dict)
    scales: Mapping[str, int] = field(default_factory=dict)


def inspect_file(path: Path, family: str | None = None) -> Inspection:
    """Read a file's header; ``family`` decides where the names leave it open.

    Raises as the readers do; their advice to say `family: sd1` becomes `--family sd1`.
    """
    with open_tensors(path) as source:
        try:
            found = _found(source, family)
        except RecipeError as error:
            error.hint = None if error.hint is None else error.hint.replace("`family:", "`--family")
            raise
        dtypes = Counter(tensor.dtype for tensor in source.tensors.values())
        told = (path, source.size, dict(dtypes), dict(source.metadata))
    if isinstance(found, CheckpointSpec):
        return Inspection(*told, found)
    modules = [(placed.spec.form, placed.found.scale) for placed in found.placed.values()]
    forms = Counter("LoRA" if form is None else form.name for form, _ in modules)
    return Inspection(*told, found.spec, dict(forms), dict(Counter(_told(scale) for _, scale in modules)))


def _found(source: TensorSource, family: str | None) -> BoundAdapter | CheckpointSpec:
    if detect(source) == "lora":
        return bind_adapter(source, family)
    return read_checkpoint_spec(source, family)


def _told(scale: Scale) -> str:
    if scale.alpha is not None or scale.factor is not None:
        return "alpha in the file"
    return "scale 1" if scale.config is None else f"scale {scale.config:g} by its config"
