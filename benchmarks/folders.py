"""Folders as huggingface's programs write them: a Llama in shards, and PEFT's adapter of it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.data import Lora
from benchmarks.layouts import Module, Tensor, tensors
from benchmarks.making import factors, size, weight, written

__all__ = ["INDEX", "make_llama", "make_peft", "make_shards", "peft_config", "shard_size", "write_json"]

INDEX = "model.safetensors.index.json"
_HEADS, _KEY_HEADS = 16, 8
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


def shard_size(divide: int = 1) -> int:
    """Bytes of data that a shard has at most: such that there are three."""
    return 400_000_000 // divide**2


def make_llama(folder: Path, divide: int = 1) -> Path:
    """The model's folder, made if it is not there: shards, their index, a config; no tokenizer."""
    name = f"llama-d{divide}"
    if (folder / name).exists():
        return folder / name
    known = tensors("llama", divide=divide)
    partial = folder / f"{name}.partial"

    def fill(path: Path, order: Sequence[Tensor]) -> None:
        written(path, order, {"format": "pt"}, lambda tensor: weight(name, tensor))

    make_shards(partial, "model", known.values(), shard_size(divide), fill)
    write_json(partial / "config.json", _config(known))
    return partial.rename(folder / name)


def make_peft(folder: Path, what: Lora) -> Path:
    """The adapter's folder, made if it is not there: its values in fp32, as PEFT trains them."""
    made = folder / what.name.removesuffix(".safetensors")
    if made.exists():
        return made
    modules = {key: module for module in what.modules() for key in _keys(module.stem)}
    drawn = functools.lru_cache(maxsize=1)(lambda module: factors(what.seeded, module, what.rank))

    def numbers(tensor: Tensor) -> Any:
        up, down = drawn(modules[tensor.key])
        return down if tensor.key.endswith(_DOWN) else up

    order = [Tensor(key, "F32", _factor_shape(key, module, what.rank)) for key, module in modules.items()]
    partial = made.with_suffix(".partial")
    written(partial / "adapter_model.safetensors", order, {"format": "pt"}, numbers)
    config = peft_config(what.rank, what.alpha, (module.stem for module in what.modules()))
    write_json(partial / "adapter_config.json", config)
    return partial.rename(made)


def _keys(stem: str) -> tuple[str, str]:
    return f"base_model.model.{stem}{_DOWN}", f"base_model.model.{stem}{_UP}"


def _factor_shape(key: str, module: Module, rank: int) -> tuple[int, int]:
    return (rank, module.shape[1]) if key.endswith(_DOWN) else (module.shape[0], rank)


def _in_layers(tensor: Tensor) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", tensor.key)]


def make_shards(
    folder: Path,
    stem: str,
    known: Iterable[Tensor],
    most: int,
    fill: Callable[[Path, Sequence[Tensor]], object],
) -> None:
    """The shards of a model, of at most ``most`` bytes of data, each made by ``fill``, and their index."""
    order = sorted(known, key=_in_layers)
    parts = list(_shards(order, most))
    places: dict[str, str] = {}
    for number, shard in enumerate(parts, 1):
        file = f"{stem}-{number:05d}-of-{len(parts):05d}.safetensors"
        fill(folder / file, sorted(shard, key=lambda tensor: tensor.key))
        places |= {tensor.key: file for tensor in shard}
    index = {"metadata": {"total_size": sum(map(size, order))}, "weight_map": places}
    write_json(folder / f"{stem}.safetensors.index.json", index)


def _shards(order: Sequence[Tensor], most: int) -> Iterator[list[Tensor]]:
    held: list[Tensor] = []
    for tensor in order:
        if held and sum(map(size, held)) + size(tensor) > most:
            yield held
            held = []
        held.append(tensor)
    yield held


def _config(known: Mapping[str, Tensor]) -> dict[str, Any]:
    vocabulary, hidden = known["model.embed_tokens.weight"].shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": known["model.layers.0.mlp.up_proj.weight"].shape[0],
        "num_hidden_layers": sum(key.endswith("input_layernorm.weight") for key in known),
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KEY_HEADS,
        "head_dim": hidden // _HEADS,
        "vocab_size": vocabulary,
        "max_position_embeddings": 2048,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    }


def peft_config(rank: int, alpha: float, modules: Iterable[str]) -> dict[str, Any]:
    """``adapter_config.json`` of a LoRA; ``modules`` are their paths."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted({module.rpartition(".")[2] for module in modules}),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_dropout": 0.0,
        "use_rslora": False,
    }


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A config or an index, as people read it."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
