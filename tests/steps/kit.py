"""Kinds at work without a recipe: specs and values as a plan and an executor hand them over."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load as load_bytes

from lorapipe.recipe.language import core_language
from lorapipe.recipe.model import JSON
from lorapipe.steps import find_kind
from lorapipe.steps.kind import Context, Inputs, Weighted
from lorapipe.weights.specs import (
    AdapterSpec,
    CheckpointSpec,
    FileSpec,
    ModuleId,
    ModuleSpec,
    Place,
    Spec,
    Spelling,
    TensorSpec,
)

__all__ = [
    "CONV",
    "FILE",
    "POINT",
    "TEXT",
    "Q",
    "deltas",
    "given",
    "infer",
    "load",
    "lora",
    "model",
    "options",
    "work",
    "written",
]

Q = ModuleId("unet", "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight")
POINT = ModuleId("unet", "model.diffusion_model.input_blocks.1.1.proj_in.weight")
CONV = ModuleId("unet", "model.diffusion_model.input_blocks.1.0.in_layers.2.weight")
TEXT = ModuleId("te", "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight")

FILE = FileSpec({"x": TensorSpec("F32", (1,))})
SHAPES = {Q: (20, 20), POINT: (20, 20, 1, 1), CONV: (20, 12, 3, 3), TEXT: (24, 16)}


def lora(
    rank: int = 4,
    family: str | None = "sd1",
    dtype: str = "F32",
    shapes: Mapping[ModuleId, tuple[int, ...]] = SHAPES,
    metadata: Mapping[str, str] | None = None,
) -> AdapterSpec:
    """The spec of a LoRA of one rank."""
    modules = {
        module: ModuleSpec(shape, rank, Spelling(f"lora_{module.key.replace('.', '_')}"))
        for module, shape in shapes.items()
    }
    return AdapterSpec(family, modules, dtype, metadata or {})


def model(family: str | None = "sd1", dtype: str = "F16") -> CheckpointSpec:
    """The spec of a checkpoint with a place for each of the modules, and a bias."""
    tensors = {module.key: TensorSpec(dtype, shape) for module, shape in SHAPES.items()}
    tensors["bias"] = TensorSpec("F32", (20,))
    return CheckpointSpec(family, tensors, {key: (Place(key),) for key in tensors})


def given(files: Mapping[str, Path] | None = None, /, **ports: Any) -> Inputs[Any]:
    """Inputs by port, dashes as underscores: a value, or a list of (step, weight, value)."""
    found = {}
    for port, value in ports.items():
        terms = value if isinstance(value, list) else [("in", 1.0, value)]
        found[port.replace("_", "-")] = tuple(Weighted(*term) for term in terms)
    return Inputs(found, files or {})


def options(kind: str, /, **said: JSON) -> dict[str, JSON]:
    """A kind's options, dashes as underscores, the schema's defaults filled in."""
    known = core_language().kind(kind).options
    defaults = {name: option.default for name, option in known.items() if "default" in option.schema}
    return {**defaults, **{name.rstrip("_").replace("_", "-"): value for name, value in said.items()}}


def infer(kind: str, inputs: Inputs[Spec], /, **said: JSON) -> Any:
    return find_kind(kind).infer(inputs, options(kind, **said))


def work(kind: str, inputs: Inputs[Any], context: Context | None = None, /, **said: JSON) -> Any:
    """What the kind makes, held against what it infers of the same inputs."""
    ports = {
        port: tuple(Weighted(t.step, t.weight, t.value.spec) for t in terms)
        for port, terms in inputs.ports.items()
    }
    foretold = infer(kind, Inputs(ports, inputs.files), **said)
    made = find_kind(kind).work(inputs, options(kind, **said), context or Context())
    assert made.spec == foretold
    return made


def load(path: Path, **said: JSON) -> Any:
    return work("load", given({"load": path}), **said)


def written(value: Any, name: str = "o.safetensors", **said: JSON) -> dict[str, torch.Tensor]:
    """The tensors that ``save`` writes, read by the safetensors library."""
    stream = io.BytesIO()
    work("save", given({"to": Path(name)}, save=value), Context(output=stream), **said)
    found: dict[str, torch.Tensor] = load_bytes(stream.getvalue())
    return found


def deltas(value: Any) -> dict[str, npt.NDArray[np.float64]]:
    """Each module's ``alpha / rank * up @ down`` in float64, as a loader reads it from a file in fp32."""
    tensors = written(value, dtype="fp32")
    found = {}
    for name, up in tensors.items():
        if name.endswith(".lora_up.weight"):
            stem = name.removesuffix(".lora_up.weight")
            down = tensors[f"{stem}.lora_down.weight"].double()
            rank = down.shape[0]
            strength = tensors[f"{stem}.alpha"].double() / rank
            found[stem] = (strength * (up.double().reshape(-1, rank) @ down.reshape(rank, -1))).numpy()
    return found
