"""``save``: a LoRA or a checkpoint becomes a file, or a checkpoint a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, cast

from lorapipe.errors import BuildError, RecipeError
from lorapipe.formats.containers.output import Written
from lorapipe.formats.files import names_folder, writer_for
from lorapipe.formats.folders.writer import (
    SHARD_SIZE,
    FolderSource,
    folder_spec,
    missing,
    write_folder,
    write_member,
)
from lorapipe.formats.layouts.peft_settings import HEADER
from lorapipe.formats.layouts.table import KEEP
from lorapipe.formats.layouts.writer import PEFT, Wanted, adapter_file, adapter_file_spec
from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.steps.types import adapter_spec, at_work
from lorapipe.weights.blocks import BLOCK_ELEMENTS, SLAB_ELEMENTS
from lorapipe.weights.inference.metadata import kept_metadata
from lorapipe.weights.inference.output import saved_checkpoint_specs
from lorapipe.weights.specs import DTYPES, AdapterSpec, CheckpointSpec, FileSpec, Spec, TensorSpec
from lorapipe.weights.verdicts import CheckSpec

if TYPE_CHECKING:
    from lorapipe.formats.containers.output import TensorData
    from lorapipe.weights.algebra.adapter import Adapter
    from lorapipe.weights.checkpoints.checkpoint import Checkpoint

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
    spec = inputs.one("save")
    if isinstance(spec, FileSpec | CheckSpec):
        message = "'save' takes a LoRA or a checkpoint, its input is a file"
        raise RecipeError("wrong-type", message, option="save")
    _check_target(spec, params)
    holds_metadata = _in_folder(params) or writer_for(inputs.files["to"]).metadata
    if params.get("metadata") and not holds_metadata:
        raise RecipeError(
            "metadata-not-kept",
            f"a {inputs.files['to'].suffix} file holds no metadata",
            hint="save as .safetensors, or leave 'metadata' out",
            option="metadata",
        )
    if isinstance(spec, AdapterSpec):
        return adapter_file_spec(spec, _wanted(params))
    dtype = _DTYPES[str(params["dtype"])]
    return (
        _folder_spec(spec, dtype, params)
        if _in_folder(params)
        else FileSpec(saved_checkpoint_specs(spec, dtype))
    )


def _wanted(params: Params) -> Wanted:
    return Wanted(str(params["layout"]), _DTYPES[str(params["dtype"])], bool(params["dense"]))


def _in_folder(params: Params) -> bool:
    return names_folder(str(params.get("to", "")))


def _folder_spec(spec: CheckpointSpec, dtype: str | None, params: Params) -> FileSpec:
    most = cast("int", params.get("shard-size", SHARD_SIZE))
    return folder_spec(spec, saved_checkpoint_specs(spec, dtype), most)


def _check_target(spec: Spec, params: Params) -> None:
    """See that what is saved fits where it goes: a file or a folder."""
    folder = _in_folder(params)
    if "shard-size" in params and not folder:
        message, hint = "'shard-size' is for folders, 'to' is a file", "end 'to' in a slash to write a folder"
        raise RecipeError("shards-need-a-folder", message, hint=hint, option="shard-size")
    if isinstance(spec, AdapterSpec):
        _check_lora_target(folder, params)
    elif params["layout"] != KEEP or params["dense"]:
        option = "layout" if params["layout"] != KEEP else "dense"
        message = f"'{option}' is for LoRAs: a checkpoint is written with the names that it has"
        raise RecipeError("checkpoint-keeps-layout", message, hint=f"leave '{option}' out", option=option)
    components = isinstance(spec, CheckpointSpec) and spec.folder is not None and "" not in spec.folder.stems
    if components and not folder:
        raise RecipeError(
            "components-need-a-folder",
            "a checkpoint of several components is written as a folder",
            hint="end 'to' in a slash; as one file it would need other names, which its programs do not read",
            option="to",
        )


def _check_lora_target(folder: bool, params: Params) -> None:
    peft = params["layout"] == PEFT
    if folder and not peft:
        hint = "name one, or say `layout: peft`, which is a folder"
        raise RecipeError("lora-is-a-file", "a LoRA is written as a file", hint=hint, option="to")
    if peft and not folder:
        hint = "end 'to' in a slash"
        raise RecipeError("peft-is-a-folder", "PEFT's layout is a folder", hint=hint, option="to")


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:  # noqa: ARG001  # the kinds' one signature
    assert isinstance(result, FileSpec)
    spec = inputs.one("save")
    if not isinstance(spec, CheckpointSpec):
        return Cost(written=result.nbytes, each=at_work(adapter_spec(spec, "save")))
    slab = max((_slab_bytes(spec.tensors[key], out) for key, out in result.tensors.items()), default=0)
    widest = max((DTYPES[t.dtype] for t in (*spec.tensors.values(), *result.tensors.values())), default=0)
    # Of what an operator sees as a whole: the weight and what becomes of it, and both as they are in files.
    seen = spec.held * (2 * DTYPES["F64"] + 2 * widest) + 4 * DTYPES["F64"] * BLOCK_ELEMENTS
    return Cost(written=result.nbytes, each=max(slab, seen) if spec.held else slab)


def _slab_bytes(read: TensorSpec, written: TensorSpec) -> int:
    """What a worker holds of a tensor: a slab as it is read and as it is written, and a block's sum."""
    elements = min(read.size, SLAB_ELEMENTS)
    widths = DTYPES[read.dtype] + DTYPES[written.dtype]
    return elements * widths + 4 * DTYPES["F64"] * min(elements, BLOCK_ELEMENTS)


def _work(inputs: Inputs[Any], params: Params, context: Context) -> SavedFile:
    from lorapipe.weights.algebra.adapter import Adapter

    value: Adapter | Checkpoint = inputs.one("save")
    if isinstance(value, Adapter):
        return _written_adapter(value, inputs, params, context)
    if _in_folder(params):
        return _written_folder(value, params, context)
    dtype, writer = _DTYPES[str(params["dtype"])], writer_for(inputs.files["to"])
    zeros: list[int] = []
    specs = saved_checkpoint_specs(value.spec, dtype)
    data = _checkpoint_data(value, specs, dtype, context, zeros.append)
    assert context.output is not None
    told = {**kept_metadata(value.spec), **context.provenance, **_given(params)}
    written = writer.write(context.output, specs, data, told, context.wrote)
    context.note("underflow", sum(zeros))
    return SavedFile(FileSpec(specs), written.sha256, written.size)


def _given(params: Params) -> dict[str, str]:
    return cast("dict[str, str]", params.get("metadata") or {})


def _written_adapter(adapter: Adapter, inputs: Inputs[Any], params: Params, context: Context) -> SavedFile:
    """The LoRA's file or folder: looked at once for what its header says of its data, then written."""
    file = adapter_file(adapter, _wanted(params), context.each)
    zeros: list[int] = []
    told = {**file.metadata, **context.provenance, **_given(params)}
    if _in_folder(params):
        told = {**file.hashes(told), **told}
        assert context.create is not None
        besides = FolderSource(file.texts)
        folder = write_folder(
            context.create, file.spec, file.data(zeros.append), told, besides, context.wrote
        )
        context.note("underflow", sum(zeros))
        return SavedFile(file.spec, folder.sha256, folder.size, folder.files)
    writer = writer_for(inputs.files["to"])
    if writer.metadata:
        told = {**file.hashes(told), **told}
    elif HEADER in told:
        raise _alphas_lost(inputs.files["to"].suffix)
    assert context.output is not None
    written = writer.write(context.output, file.spec.tensors, file.data(zeros.append), told, context.wrote)
    context.note("underflow", sum(zeros))
    return SavedFile(file.spec, written.sha256, written.size)


def _alphas_lost(suffix: str) -> BuildError:
    return BuildError(
        "metadata-not-kept",
        f"a {suffix} file holds no metadata, where diffusers' names have their alphas",
        hint="save as .safetensors, or with another layout",
    )


def _written_folder(checkpoint: Checkpoint, params: Params, context: Context) -> SavedFile:
    """The checkpoint's folder, file after file, but for those that an interrupted build finished."""
    dtype, zeros = _DTYPES[str(params["dtype"])], list[int]()
    spec = _folder_spec(checkpoint.spec, dtype, params)
    told = {**kept_metadata(checkpoint.spec), **context.provenance, **_given(params)}
    finished = {file: written for file, written in context.finished.items() if file in spec.files}
    data = _checkpoint_data(checkpoint, missing(spec, finished), dtype, context, zeros.append)
    besides = FolderSource.of(spec, checkpoint.spec.folder)
    assert context.create is not None
    written = write_folder(
        context.create, spec, data, told, besides, context.wrote, finished=finished, finish=context.finish
    )
    context.note("underflow", sum(zeros))
    return SavedFile(spec, written.sha256, written.size, written.files)


def _work_part(inputs: Inputs[Any], params: Params, context: Context, file: str) -> Written:
    """One file of the checkpoint's folder."""
    checkpoint: Checkpoint = inputs.one("save")
    dtype, zeros = _DTYPES[str(params["dtype"])], list[int]()
    spec = _folder_spec(checkpoint.spec, dtype, params)
    told = {**kept_metadata(checkpoint.spec), **context.provenance, **_given(params)}
    data = _checkpoint_data(checkpoint, spec.files[file], dtype, context, zeros.append)
    assert context.create is not None
    written = write_member(context.create, spec, file, data, told, context.wrote)
    context.note("underflow", sum(zeros))
    return written


def _checkpoint_data(
    checkpoint: Checkpoint,
    keys: Iterable[str],
    dtype: str | None,
    context: Context,
    underflow: Callable[[int], None],
) -> TensorData:
    """The checkpoint's tensors ``keys``, in file order; a few slabs at work or in memory at a time."""
    from lorapipe.weights.checkpoints.lanes import lanes  # they need torch
    from lorapipe.weights.checkpoints.quantised import Rescaled

    lane = lanes(context.device)
    arithmetic = partial(checkpoint.chunks, compute=context.compute, device=context.device)
    rescaled = Rescaled(partial(checkpoint.rescaled, compute=context.compute, device=context.device))

    def make(errand: tuple[str, tuple[int, int]]) -> tuple[str, list[bytearray | memoryview]]:
        key, slab = errand
        with lane():
            return key, list(arithmetic(key, dtype, slab=slab, rescaled=rescaled, underflow=underflow))

    errands = ((key, slab) for key in keys for slab in checkpoint.slabs(key))
    done = context.each(make, errands)
    for key, parts in groupby(done, key=lambda part: part[0]):
        yield key, chain.from_iterable(chunks for _, chunks in parts)


def _warn(inputs: Inputs[Spec], params: Params, result: Spec) -> tuple[str, ...]:  # noqa: ARG001  # the kinds' one signature
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
    work_part=_work_part,
)
