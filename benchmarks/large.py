"""Large models in shards, by their layouts: whole ones that take no disk, or parts of them with numbers.

A hollow file is a true header before a hole: as long as the real one, its data read as zeros, and
the disk has the header alone, which is all that a plan ever reads.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.folders import make_shards, peft_config, write_json
from benchmarks.layouts import Module, Tensor, tensors
from benchmarks.making import factors, hollow, size, weight, written

__all__ = ["LARGE", "Large", "Size", "make_adapter", "make_model"]

_BLOCK = re.compile(r"(?:layers|blocks)\.([0-9]+)\.")


@dataclass(frozen=True, slots=True)
class Large:
    """A model as it was released: where its weights lie in its folder, in shards of what size.

    ``trained`` matches the matrices that LoRAs of it are trained for; they are named as PEFT does,
    or as kohya's programs do. ``config`` is what its ``config.json`` says of the class.
    """

    title: str
    component: str
    stem: str
    shard: int
    trained: re.Pattern[str]
    peft: bool
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a model: its first ``layers`` blocks (all), each axis divided by ``divide``."""

    layers: int | None = None
    divide: int = 1

    def __str__(self) -> str:
        return f"l{self.layers or 'all'}-d{self.divide}"


LARGE: Mapping[str, Large] = MappingProxyType(
    {
        "llama-70b": Large(
            "Llama 3.1 70B",
            "",
            "model",
            5_000_000_000,
            re.compile(r".*_proj\.weight"),
            peft=True,
            config={"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        ),
        "qwen-image": Large(
            "Qwen-Image",
            "transformer",
            "diffusion_pytorch_model",
            5_000_000_000,
            re.compile(r"transformer_blocks\..*\.(?:attn|img_mlp|txt_mlp)\..*\.weight"),
            peft=False,
            config={"_class_name": "QwenImageTransformer2DModel"},
        ),
        "wan-14b": Large(
            "Wan 2.1 14B",
            "",
            "diffusion_pytorch_model",
            10_000_000_000,
            re.compile(r"blocks\..*\.(?:self_attn|cross_attn|ffn)\..*\.weight"),
            peft=False,
            config={"_class_name": "WanModel", "model_type": "t2v"},
        ),
    }
)


def make_model(folder: Path, name: str, size_of: Size = Size(), *, empty: bool = True) -> Path:
    """The model's folder, made if it is not there; ``empty``: with holes for data.

    The shards of a part of a model are as many as those of the whole, and smaller.
    """
    large, known = LARGE[name], _tensors(name, size_of)
    made = folder / f"{name}-{size_of}{'-hollow' if empty else ''}"
    if made.exists():
        return made
    partial = made.with_suffix(".partial")
    above = partial / large.component

    def fill(path: Path, order: Sequence[Tensor]) -> None:
        told = {"format": "pt"}
        if empty:
            hollow(path, order, told)
        else:
            written(path, order, told, lambda tensor: weight(made.name, tensor))

    share = sum(map(size, known)) / sum(map(size, tensors(name).values()))
    make_shards(above, large.stem, known, max(int(large.shard * share), *map(size, known)), fill)
    write_json(above / "config.json", large.config)
    if large.component:
        pipeline = {"_class_name": "DiffusionPipeline", large.component: ["diffusers", "ModelMixin"]}
        write_json(partial / "model_index.json", pipeline)
    return partial.rename(made)


def make_adapter(
    folder: Path,
    name: str,
    rank: int,
    size_of: Size = Size(),
    *,
    seed: int = 1,
    empty: bool = True,
) -> Path:
    """A LoRA of the usual modules in bf16, alpha half its rank: PEFT's folder, or kohya's file."""
    large = LARGE[name]
    made = folder / f"{name}-{size_of}-r{rank}-s{seed}{'-hollow' if empty else ''}"
    made = made if large.peft else made.with_name(made.name + ".safetensors")
    if made.exists():
        return made
    modules = [_module(tensor, large) for tensor in _tensors(name, size_of) if _is_trained(tensor, large)]
    parts = [(tensor, module, role) for module in modules for tensor, role in _of(module, rank, large)]
    places = {tensor.key: (module, role) for tensor, module, role in parts}
    order = [tensor for tensor, _, _ in parts]
    drawn = functools.lru_cache(maxsize=1)(lambda module: factors(f"{name}-s{seed}", module, rank))

    def numbers(tensor: Tensor) -> Any:
        module, role = places[tensor.key]
        if role == "alpha":
            return rank / 2
        up, down = drawn(module)
        return up if role == "up" else down

    path = made / "adapter_model.safetensors" if large.peft else made
    told = {"format": "pt"} if large.peft else {"ss_network_module": "networks.lora"}
    hollow(path, order, told) if empty else written(path, order, told, numbers)
    if large.peft:
        write_json(made / "adapter_config.json", peft_config(rank, rank / 2, (m.stem for m in modules)))
    return made


def _tensors(name: str, size_of: Size) -> list[Tensor]:
    known = tensors(name, divide=size_of.divide).values()
    if size_of.layers is None:
        return list(known)
    found = ((tensor, _BLOCK.search(tensor.key)) for tensor in known)
    return [tensor for tensor, block in found if block is None or int(block[1]) < size_of.layers]


def _is_trained(tensor: Tensor, large: Large) -> bool:
    return len(tensor.shape) == 2 and large.trained.fullmatch(tensor.key) is not None


def _module(tensor: Tensor, large: Large) -> Module:
    stem = tensor.key.removesuffix(".weight")
    return Module(
        stem if large.peft else "lora_unet_" + stem.replace(".", "_"), tensor.shape, tensor.key, None
    )


def _of(module: Module, rank: int, large: Large) -> list[tuple[Tensor, str]]:
    """The tensors of a module in a file, and what each is."""
    out, into = module.shape
    stem = f"base_model.model.{module.stem}" if large.peft else module.stem
    down, up = ("lora_A", "lora_B") if large.peft else ("lora_down", "lora_up")
    factors_of = [
        (Tensor(f"{stem}.{down}.weight", "BF16", (rank, into)), "down"),
        (Tensor(f"{stem}.{up}.weight", "BF16", (out, rank)), "up"),
    ]
    return factors_of if large.peft else [(Tensor(f"{stem}.alpha", "BF16", ()), "alpha"), *factors_of]
