"""Folders of weights as other programs write them, made with the safetensors library and torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .sources import seeded

__all__ = ["diffusers_folder", "hf_folder", "hf_tensors", "index_of", "peft_folder", "shards"]

CONFIG = '{"model_type": "tiny"}\n'


def hf_tensors(count: int = 5, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Weights of a small language model, of different sizes."""
    return {
        f"model.layers.{i}.mlp.down_proj.weight": seeded(4 + i, 3, seed=i, dtype=dtype) for i in range(count)
    }


def shards(
    folder: Path,
    tensors: Mapping[str, Tensor],
    count: int,
    *,
    stem: str = "model",
    suffix: str = "safetensors",
) -> dict[str, str]:
    """Write tensors in ``count`` files, in turn, with their index; returns its weight_map."""
    names = [f"{stem}-{i:05d}-of-{count:05d}.{suffix}" for i in range(1, count + 1)]
    held = {name: dict(list(tensors.items())[i::count]) for i, name in enumerate(names)}
    for name, inner in held.items():
        if suffix == "safetensors":
            save_file(inner, folder / name, {"format": "pt"})
        else:
            torch.save(inner, folder / name)
    weight_map = {tensor: name for name, inner in held.items() for tensor in inner}
    index_of(folder, weight_map, f"{stem}.{suffix}.index.json")
    return weight_map


def index_of(folder: Path, weight_map: object, name: str = "model.safetensors.index.json") -> Path:
    """Write an index."""
    path = folder / name
    path.write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}))
    return path


def hf_folder(folder: Path, tensors: Mapping[str, Tensor] | None = None, count: int = 2) -> Path:
    """A language model as transformers writes it: shards, index, config, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    given = hf_tensors() if tensors is None else tensors
    if count == 1:
        save_file(dict(given), folder / "model.safetensors", {"format": "pt"})
    else:
        shards(folder, given, count)
    (folder / "config.json").write_text(CONFIG)
    (folder / "tokenizer.json").write_text('{"vocab": {}}\n')
    return folder


def diffusers_folder(
    folder: Path,
    components: Mapping[str, Mapping[str, Tensor]],
    plain: Iterable[str] = ("scheduler", "tokenizer"),
) -> Path:
    """A pipeline as diffusers writes it: ``model_index.json``, a folder for each component."""
    folder.mkdir(parents=True, exist_ok=True)
    classes: dict[str, object] = {"_class_name": "TinyPipeline", "_diffusers_version": "0.32.1"}
    for name, tensors in components.items():
        (folder / name).mkdir()
        theirs = name.startswith("text_encoder")
        stem = "model" if theirs else "diffusion_pytorch_model"
        save_file(dict(tensors), folder / name / f"{stem}.safetensors", {"format": "pt"})
        (folder / name / "config.json").write_text(f'{{"component": "{name}"}}\n')
        classes[name] = ["transformers", "CLIPTextModel"] if theirs else ["diffusers", "UNet2DConditionModel"]
    for name in plain:
        (folder / name).mkdir()
        (folder / name / f"{name}_config.json").write_text("{}\n")
        classes[name] = (
            ["diffusers", "PNDMScheduler"] if name == "scheduler" else ["transformers", "CLIPTokenizer"]
        )
    classes["safety_checker"] = [None, None]
    (folder / "model_index.json").write_text(json.dumps(classes))
    return folder


def peft_folder(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, object]) -> Path:
    """An adapter as PEFT writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("# an adapter\n")
    return folder
