"""Ports are typed: a LoRA where a LoRA is due, a checkpoint where a checkpoint is."""

from __future__ import annotations

from lorapipe.errors import RecipeError
from lorapipe.weights.specs import DTYPES, AdapterSpec, CheckpointSpec, Spec

__all__ = ["adapter_spec", "at_work", "checkpoint_spec", "factor_bytes"]

_NAMES = {AdapterSpec: "a LoRA", CheckpointSpec: "a checkpoint"}


def adapter_spec(spec: Spec, option: str, step: str | None = None) -> AdapterSpec:
    """The spec as a LoRA's; raises :class:`RecipeError` when it is something else."""
    if isinstance(spec, AdapterSpec):
        return spec
    raise _wrong(spec, "a LoRA", option, step)


def checkpoint_spec(spec: Spec, option: str, step: str | None = None) -> CheckpointSpec:
    """The spec as a checkpoint's; raises :class:`RecipeError` when it is something else."""
    if isinstance(spec, CheckpointSpec):
        return spec
    raise _wrong(spec, "a checkpoint", option, step)


def _wrong(spec: Spec, due: str, option: str, step: str | None) -> RecipeError:
    found = _NAMES.get(type(spec), "a file")
    what = f"'{step}'" if step else "its input"
    hint = (
        "merge-into-checkpoint adds LoRAs to a checkpoint; a LoRA taken for one is loaded with 'as: lora'"
        if due == "a LoRA"
        else "LoRAs go elsewhere; a checkpoint that is taken for one is loaded with 'as: checkpoint'"
    )
    return RecipeError("wrong-type", f"'{option}' takes {due}, {what} is {found}", hint=hint, option=option)


def factor_bytes(spec: AdapterSpec, dtype: str = "F64") -> int:
    """Bytes of all factors of a LoRA in a dtype."""
    return spec.elements * DTYPES[dtype]


def at_work(spec: AdapterSpec) -> int:
    """Bytes that the largest module takes while it is worked on: stacked in float64, and copies."""
    return 4 * DTYPES["F64"] * max((module.elements for module in spec.modules.values()), default=0)
