"""What a file of weights is, from its header."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lorapipe.formats.adapters import detect, read_adapter_spec
from lorapipe.formats.checkpoints import read_checkpoint_spec
from lorapipe.formats.files import open_tensors
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
    """Read a file's header. Raises as the readers do."""
    with open_tensors(path) as source:
        kind = detect(source)
        spec = read_adapter_spec(source, family) if kind == "lora" else read_checkpoint_spec(source, family)
        dtypes = Counter(tensor.dtype for tensor in source.tensors.values())
        return Inspection(path, path.stat().st_size, dict(dtypes), dict(source.metadata), spec)
