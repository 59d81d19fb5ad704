"""``save``: a LoRA or a checkpoint becomes a file, or a checkpoint a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, cast

from lorapipe.errors import RecipeError
from lorapipe.formats.files import names_folder, writer_for
from lorapipe.formats.folder_writer import SHARD_SIZE, FolderSource, folder_spec, write_folder
from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.weights.blocks import BLOCK_ELEMENTS, SLAB_ELEMENTS
from lorapipe.weights.metadata import checkpoint_metadata, network_metadata
from lorapipe.weights.output import saved_checkpoint_specs, saved_specs
from lorapipe.weights.ranks import size_in_bytes
from lorapipe.weights.specs import DTYPES, AdapterSpec, CheckpointSpec, FileSpec, Spec, TensorSpec

if TYPE_CHECKING:
    from lorapipe.formats.output import TensorData
    from lorapipe.weights.adapter import Adapter
    from lorapipe.weights.checkpoint import Checkpoint
    from lorapipe.weights.each import Each

__all__ = ["KIND", "SavedFile"]

_DTYPES: Mapping[str, str | None] = {
    "keep": None, "fp32": "F32", "fp16": "F16", "bf16": "BF16", "fp8_e4m3": "F8_E4M3", "fp8_e5m2": "F8_E5M2",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file as written: what is in it, its sha256, its size in bytes.

    Of a folder ``files`` holds the sha256 of each file in it, by relative name.
    """

    spec: FileSpec
    sha256: str
    size: int
    files: Mapping[str, str] = field(default_factory=dict)


def _infer(inputs: Inputs[Spec], params: Params) -> FileSpec:
    spec, dtype = inputs.one("save"), _DTYPES[str(params["dtype"])]
    _check_target(spec, params)
    if _in_folder(params) and isinstance(spec, CheckpointSpec):
        return _folder_spec(spec, dtype, params)
    if params.get("metadata") and not writer_for(inputs.files["to"]).metadata:
        raise RecipeError(
            "metadata-not-kept",
            f"a {inputs.files['to'].suffix} file holds no metadata",
            hint="save as .safetensors, or leave 'metadata' out",
            option="metadata",
        )
    if isinstance(spec, AdapterSpec):
        return FileSpec(writer_for(inputs.files["to"]).order(saved_specs(spec, dtype)), spec.bounded)
    if isinstance(spec, CheckpointSpec):
        return FileSpec(saved_checkpoint_specs(spec, dtype))
    raise RecipeError("wrong-type", "'save' takes a LoRA or a checkpoint, its input is a file", option="save")


def _in_folder(params: Params) -> bool:
    return names_folder(str(params.get("to", "")))


def _folder_spec(spec: CheckpointSpec, dtype: str | None, params: Params) -> FileSpec:
    most = size_in_bytes(cast("int | str", params.get("shard-size", SHARD_SIZE)))
    return folder_spec(spec, saved_checkpoint_specs(spec, dtype), most)


def _check_target(spec: Spec, params: Params) -> None:
    """See that what is saved fits where it goes: a file or a folder."""
    folder = _in_folder(params)
    if "shard-size" in params and not folder:
        message, hint = "'shard-size' is for folders, 'to' is a file", "end 'to' in a slash to write a folder"
        raise RecipeError("shards-need-a-folder", message, hint=hint, option="shard-size")
    if folder and isinstance(spec, AdapterSpec):
        raise RecipeError("lora-is-a-file", "a LoRA is written as a file", hint="name one", option="to")
    components = isinstance(spec, CheckpointSpec) and spec.folder is not None and "" not in spec.folder.stems
    if components and not folder:
        raise RecipeError(
            "components-need-a-folder",
            "a checkpoint of several components is written as a folder",
            hint="end 'to' in a slash; as one file it would need other names, which its programs do not read",
            option="to",
        )


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:  # noqa: ARG001  # the kinds' one signature
    assert isinstance(result, FileSpec)
    spec = inputs.one("save")
    if not isinstance(spec, CheckpointSpec):
        return Cost(written=result.nbytes)
    slab = max((_slab_bytes(spec.tensors[key], out) for key, out in result.tensors.items()), default=0)
    return Cost(written=result.nbytes, each=slab)


def _slab_bytes(read: TensorSpec, written: TensorSpec) -> int:
    """What a worker holds of a tensor: a slab as it is read and as it is written, and a block's sum."""
    elements = min(read.size, SLAB_ELEMENTS)
    widths = DTYPES[read.dtype] + DTYPES[written.dtype]
    return elements * widths + 4 * DTYPES["F64"] * min(elements, BLOCK_ELEMENTS)


def _work(inputs: Inputs[Any], params: Params, context: Context) -> SavedFile:
    from lorapipe.weights.adapter import Adapter
    from lorapipe.weights.saving import alphas

    value: Adapter | Checkpoint = inputs.one("save")
    if not isinstance(value, Adapter) and _in_folder(params):
        return _written_folder(value, params, context)
    dtype, writer = _DTYPES[str(params["dtype"])], writer_for(inputs.files["to"])
    zeros: list[int] = []
    if isinstance(value, Adapter):
        specs = writer.order(saved_specs(value.spec, dtype))
        metadata = network_metadata(value.spec, alphas(value))
        data = _adapter_data(value, dtype, list(specs), context.each, zeros.append)
    else:
        specs = saved_checkpoint_specs(value.spec, dtype)
        metadata = checkpoint_metadata(value.spec)
        data = _checkpoint_data(value, dtype, context, zeros.append)
    given = cast("dict[str, str]", params.get("metadata") or {})
    assert context.output is not None
    told = {**metadata, **context.provenance, **given}
    written = writer.write(context.output, specs, data, told, context.wrote)
    context.note("underflow", sum(zeros))
    return SavedFile(FileSpec(specs), written.sha256, written.size)


def _written_folder(checkpoint: Checkpoint, params: Params, context: Context) -> SavedFile:
    """The checkpoint's folder, file after file."""
    dtype, zeros = _DTYPES[str(params["dtype"])], list[int]()
    spec = _folder_spec(checkpoint.spec, dtype, params)
    given = cast("dict[str, str]", params.get("metadata") or {})
    told = {**checkpoint_metadata(checkpoint.spec), **context.provenance, **given}
    data = _checkpoint_data(checkpoint, dtype, context, zeros.append)
    besides = FolderSource.of(spec, checkpoint.spec.folder)
    assert context.create is not None
    written = write_folder(context.create, spec, data, told, besides, context.wrote)
    context.note("underflow", sum(zeros))
    return SavedFile(spec, written.sha256, written.size, written.files)


def _adapter_data(
    adapter: Adapter, dtype: str | None, names: list[str], each: Each, underflow: Callable[[int], None]
) -> TensorData:
    """The adapter's tensors in file order, made module by module by the workers."""
    from lorapipe.weights.saving import saved_tensors
    from lorapipe.weights.tensors import to_bytes

    tensors = {tensor.name: tensor for tensor in saved_tensors(adapter, dtype)}

    def make(name: str) -> tuple[str, tuple[memoryview]]:
        rounded = tensors[name].make()
        underflow(rounded.underflowed)
        return name, (to_bytes(rounded.tensor),)

    return each(make, names)


def _checkpoint_data(
    checkpoint: Checkpoint, dtype: str | None, context: Context, underflow: Callable[[int], None]
) -> TensorData:
    """The checkpoint's tensors in file order; a few slabs at work or in memory at a time."""
    from lorapipe.weights.quantised import Rescaled  # it needs torch

    arithmetic = partial(checkpoint.chunks, compute=context.compute, device=context.device)
    rescaled = Rescaled(partial(checkpoint.rescaled, compute=context.compute, device=context.device))

    def make(errand: tuple[str, tuple[int, int]]) -> tuple[str, list[bytearray | memoryview]]:
        key, slab = errand
        return key, list(arithmetic(key, dtype, slab=slab, rescaled=rescaled, underflow=underflow))

    keys = saved_checkpoint_specs(checkpoint.spec, dtype)
    errands = ((key, slab) for key in keys for slab in checkpoint.slabs(key))
    done = context.each(make, errands)
    for key, parts in groupby(done, key=lambda part: part[0]):
        yield key, chain.from_iterable(chunks for _, chunks in parts)


def _warn(inputs: Inputs[Spec], params: Params) -> tuple[str, ...]:
    return (*_too_wide(inputs, params), *_stays_behind(inputs, params))


def _stays_behind(inputs: Inputs[Spec], params: Params) -> tuple[str, ...]:
    """What of the input's folder an output folder will lack, although it may be wanted."""
    spec = inputs.one("save")
    if not _in_folder(params) or not isinstance(spec, CheckpointSpec) or spec.folder is None:
        return ()
    names = spec.folder.left_out
    return (f"not copied from '{spec.folder.path.name}': {', '.join(names)}",) if names else ()


def _too_wide(inputs: Inputs[Spec], params: Params) -> tuple[str, ...]:
    """Types whose range is wider than fp16's: a value beyond it would stop the build."""
    spec = inputs.one("save")
    if params["dtype"] != "fp16":
        return ()
    if isinstance(spec, CheckpointSpec):
        wide = any(tensor.dtype == "BF16" for tensor in spec.tensors.values())
    else:
        wide = isinstance(spec, AdapterSpec) and spec.dtype == "BF16"
    return ("bf16 numbers may be too large for fp16; 'dtype: bf16' keeps their range",) if wide else ()


KIND = Kind(
    name="save",
    version=1,
    materialise=Materialise.OUTPUT,
    infer=_infer,
    work=_work,
    cost=_cost,
    keyless=frozenset({"to"}),
    warn=_warn,
)
