"""``load``: a LoRA or a checkpoint from a file or a folder."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, cast

from lorapipe.errors import RecipeError
from lorapipe.formats.adapters.read import detect, read_adapter, read_adapter_spec
from lorapipe.formats.adapters.reading import lacks_alpha, wrapped_by_peft
from lorapipe.formats.checkpoints.read import read_checkpoint, read_checkpoint_spec
from lorapipe.formats.containers.tensor_file import TensorFile
from lorapipe.formats.files import open_tensors
from lorapipe.steps.kind import Context, Cost, Inputs, Kind, Materialise, Params
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, Spec

if TYPE_CHECKING:
    from lorapipe.formats.folders.tensor_folder import TensorFolder
    from lorapipe.weights.algebra.adapter import Adapter
    from lorapipe.weights.checkpoints.checkpoint import Checkpoint

__all__ = ["KIND"]


def _infer(inputs: Inputs[Spec], params: Params) -> AdapterSpec | CheckpointSpec:
    return _spec(_opened(inputs, params), inputs.files["load"].name, params)


def _spec(source: TensorFile | TensorFolder, name: str, params: Params) -> AdapterSpec | CheckpointSpec:
    family = cast("str | None", params.get("family"))
    found = detect(source)
    wanted = params.get("as", found)
    if wanted == "checkpoint":
        _refuse_alpha(params)
        return read_checkpoint_spec(source, family)
    if found == "checkpoint":
        raise RecipeError(
            "not-a-lora",
            f"'{name}' holds no LoRA: none of its names is a LoRA's",
            hint="leave 'as: lora' out",
            option="as",
        )
    return read_adapter_spec(source, family, _alpha(params))


def _work(inputs: Inputs[Any], params: Params, context: Context) -> Adapter | Checkpoint:
    # What is loaded reads on from the file, and so it owns it, and no shelf does.
    source = open_tensors(inputs.files["load"], _variant(params))
    spec = _spec(source, inputs.files["load"].name, params)
    if isinstance(spec, CheckpointSpec):
        return read_checkpoint(source, spec)
    return read_adapter(source, spec, context.device, _alpha(params))


def _alpha(params: Params) -> float | None:
    given = params.get("alpha")
    if given is None:
        return None
    value = float(cast("float", given))
    if not isfinite(value):
        raise RecipeError("not-a-number", f"a LoRA cannot have the alpha {value}", option="alpha")
    return value


def _refuse_alpha(params: Params) -> None:
    if params.get("alpha") is not None:
        raise RecipeError(
            "alpha-of-checkpoint", "a checkpoint has no alpha", hint="leave 'alpha' out", option="alpha"
        )


def _warn(inputs: Inputs[Spec], params: Params, result: Spec) -> tuple[str, ...]:
    return (*_not_named(inputs, params), *_without_alpha(inputs, params, result))


def _not_named(inputs: Inputs[Spec], params: Params) -> tuple[str, ...]:
    """Shards that an index does not name, which nobody reads."""
    source = _opened(inputs, params)
    unnamed = source.contents.unnamed if not isinstance(source, TensorFile) else ()
    return (f"its index does not name {', '.join(unnamed)}: not read",) if unnamed else ()


def _without_alpha(inputs: Inputs[Spec], params: Params, result: Spec) -> tuple[str, ...]:
    """That a file of PEFT's does not say how strong it is."""
    if params.get("alpha") is not None or not (isinstance(result, AdapterSpec) and wrapped_by_peft(result)):
        return ()
    if not lacks_alpha(_opened(inputs, params)):
        return ()
    return ("it is PEFT's without its adapter_config.json, so scale 1: load its folder, or say 'alpha'",)


def _opened(inputs: Inputs[Any], params: Params) -> TensorFile | TensorFolder:
    return inputs.shelf.tensors(inputs.files["load"], _variant(params))


def _variant(params: Params) -> str | None:
    return cast("str | None", params.get("variant"))


def _cost(inputs: Inputs[Spec], params: Params, result: Spec) -> Cost:  # noqa: ARG001  # the kinds' one signature
    return Cost(read=_opened(inputs, params).size)


KIND = Kind(
    name="load",
    version=1,
    materialise=Materialise.LAZY,
    infer=_infer,
    work=_work,
    cost=_cost,
    keyless=frozenset({"load", "sha256", "variant"}),
    warn=_warn,
)
