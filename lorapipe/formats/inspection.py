"""What a file of weights is, from its header."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lorapipe.errors import RecipeError
from lorapipe.formats.adapters import detect, read_adapter_spec
from lorapipe.formats.checkpoints import read_checkpoint_spec
from lorapipe.formats.files import open_tensors
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec

__all__ = ["Inspection", "inspect_file"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """A file's spec, its size in bytes, how many tensors it has of each dtype, its metadata."""

    path: Path
    size: int
    dtypes: Mapping[str, int]
    metadata: Mapping[str, str]
    spec: AdapterSpec | CheckpointSpec


def inspect_file(path: Path, family: str | None = None) -> Inspection:
    """Read a file's header; ``family`` decides where the names leave it open.

    Raises as the readers do; their advice to say `family: sd1` becomes `--family sd1`.
    """
    with open_tensors(path) as source:
        try:
            spec = _spec(source, family)
        except RecipeError as error:
            error.hint = None if error.hint is None else error.hint.replace("`family:", "`--family")
            raise
        dtypes = Counter(tensor.dtype for tensor in source.tensors.values())
        return Inspection(path, source.size, dict(dtypes), dict(source.metadata), spec)


def _spec(source: TensorSource, family: str | None) -> AdapterSpec | CheckpointSpec:
    if detect(source) == "lora":
        return read_adapter_spec(source, family)
    return read_checkpoint_spec(source, family)
