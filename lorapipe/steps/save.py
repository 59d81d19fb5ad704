"""``save``: a LoRA or a checkpoint becomes a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from lorapipe.errors import RecipeError
from lorapipe.formats.files import Writer, writer_for
from lorapipe.formats.metadata import adapter_metadata, checkpoint_metadata
from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.weights.inference import saved_specs
from lorapipe.weights.specs import (
    DTYPES,
    FLOATING,
    AdapterSpec,
    CheckpointSpec,
    FileSpec,
    Spec,
    TensorSpec,
)

if TYPE_CHECKING:
    from lorapipe.weights.adapter import Adapter
    from lorapipe.weights.checkpoint import Checkpoint

__all__ = ["KIND", "Written"]

_DTYPES: Mapping[str, str | None] = {"keep": None, "fp32": "F32", "fp16": "F16", "bf16": "BF16"}


@dataclass(frozen=True, slots=True)
class Written:
    """A file as written: its sha256 and size in bytes."""

    spec: FileSpec
    sha256: str
    size: int


def _dtype(params: Params) -> str | None:
    return _DTYPES[str(params["dtype"])]


def _infer(inputs: Inputs[Spec], params: Params) -> FileSpec:
    spec = inputs.one("save")
    dtype = _dtype(params)
    if isinstance(spec, AdapterSpec):
        return FileSpec(writer_for(inputs.files["to"]).order(saved_specs(spec, dtype or spec.dtype)))
    if isinstance(spec, CheckpointSpec):
        return FileSpec(
            {
                name: TensorSpec(dtype, tensor.shape) if dtype and tensor.dtype in FLOATING else tensor
                for name, tensor in spec.tensors.items()
            }
        )
    raise RecipeError("wrong-type", "'save' takes a LoRA or a checkpoint, its input is a file", option="save")


def _work(inputs: Inputs[Any], params: Params, context: Context) -> Written:
    value: Adapter | Checkpoint = inputs.one("save")
    given = cast("dict[str, str]", params.get("metadata") or {})
    specs = _infer(_specs(inputs), params)
    if isinstance(value.spec, AdapterSpec):
        data = _adapter_data(value, specs, context)  # type: ignore[arg-type]  # its spec says which of the two it is
        metadata = adapter_metadata(value.spec, context.provenance, given, _alphas(value))
    else:
        data = _checkpoint_data(value, specs, context)  # type: ignore[arg-type]  # its spec says which of the two it is
        metadata = checkpoint_metadata(value.spec, context.provenance, given)
    return _write(writer_for(inputs.files["to"]), specs, data, metadata, context)
