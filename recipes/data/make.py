"""Write the small inputs that the recipes use; the files in this folder are its output.

    python recipes/data/make.py [FOLDER]

Names, shapes, dtypes and metadata are those of real Stable Diffusion 1.5 files; the numbers
are not trained. They come from the raw words of a counter-based generator and from
arithmetic that IEEE 754 defines to the last bit, so that every machine writes the same
bytes; a test compares them with the files that are committed.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterable, Mapping
from math import prod, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lorapipe.formats.containers.safetensors_writer import library_order, write_safetensors
from lorapipe.weights.specs import TensorSpec

__all__ = ["main", "make"]

Array = npt.NDArray[np.float64]
Tensors = dict[str, npt.NDArray[np.generic]]

HERE = Path(__file__).resolve().parent

BLOCK = "lora_unet_down_blocks_0_attentions_0_"
RESNET = "lora_unet_down_blocks_0_resnets_0_"
TEXT = "lora_te_text_model_encoder_layers_0_self_attn_"
LDM = "model.diffusion_model.input_blocks."
CLIP = "cond_stage_model.transformer.text_model."

ATTENTION = {
    f"{BLOCK}proj_in": (320, 320, 1, 1),
    **{f"{BLOCK}transformer_blocks_0_attn1_to_{part}": (320, 320) for part in ("q", "k", "v", "out_0")},
    f"{BLOCK}transformer_blocks_0_attn2_to_q": (320, 320),
    f"{BLOCK}transformer_blocks_0_attn2_to_k": (320, 768),
    f"{BLOCK}transformer_blocks_0_attn2_to_v": (320, 768),
    f"{BLOCK}transformer_blocks_0_attn2_to_out_0": (320, 320),
    f"{BLOCK}transformer_blocks_0_ff_net_2": (320, 1280),
    f"{BLOCK}proj_out": (320, 320, 1, 1),
}
CONVOLUTIONS = {f"{RESNET}conv1": (320, 320, 3, 3), f"{RESNET}conv2": (320, 320, 3, 3)}
TIME = {f"{RESNET}time_emb_proj": (320, 1280)}
TEXT_ENCODER = {f"{TEXT}{part}_proj": (768, 768) for part in ("q", "k", "v", "out")}

SKETCH = {
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj": (768, 768),
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": (320, 320),
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q": (640, 640),
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q": (1280, 1280),
    "lora_unet_up_blocks_2_attentions_0_transformer_blocks_0_attn2_to_k": (640, 768),
    "lora_unet_up_blocks_3_attentions_0_transformer_blocks_0_attn1_to_q": (320, 320),
    "lora_unet_up_blocks_3_attentions_0_transformer_blocks_0_ff_net_2": (320, 1280),
}
"""One module of each of a few blocks: BASE, IN01, IN04, MID, OUT06, OUT09 (two)."""

EXCERPT = {
    f"{LDM}0.0.weight": (320, 4, 3, 3),
    f"{LDM}0.0.bias": (320,),
    f"{LDM}1.1.norm.weight": (320,),
    f"{LDM}1.1.norm.bias": (320,),
    f"{LDM}1.1.proj_in.weight": (320, 320, 1, 1),
    f"{LDM}1.1.proj_in.bias": (320,),
    f"{LDM}1.1.transformer_blocks.0.attn1.to_q.weight": (320, 320),
    # The width of the text tells SD1 from SD2, which name their U-Nets alike.
    f"{LDM}1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
    f"{CLIP}final_layer_norm.weight": (768,),
    f"{CLIP}final_layer_norm.bias": (768,),
}

COMMON = {
    "ss_base_model_version": "sd_v1",
    "ss_network_module": "networks.lora",
    "ss_v2": "False",
    "modelspec.architecture": "stable-diffusion-v1/lora",
    "modelspec.description": "not trained: an example that recipes/data/make.py of lorapipe writes",
}
INK = {
    **COMMON,
    "modelspec.title": "ink-style",
    "ss_network_alpha": "4.0",
    "ss_network_args": '{"conv_dim": 4, "conv_alpha": 1.0}',
    "ss_network_dim": "8",
    "ss_output_name": "ink-style",
}
LANTERN = {
    **COMMON,
    "modelspec.title": "lantern-char",
    "ss_network_dim": "12",
    "ss_output_name": "lantern-char",
}
SKETCH_STEPS = (1000, 2000, 3000)


def noise(name: str, shape: tuple[int, ...]) -> Array:
    """Numbers of mean 0 and variance 1, nearly normal, that ``name`` alone decides.

    Each is a sum of four uniform 16-bit integers, an integer still, made a float by one
    division.
    """
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    words = np.random.Philox(key=key).random_raw(prod(shape))
    fields = words[:, None] >> np.array([0, 16, 32, 48], dtype=np.uint64)
    sums = (fields & np.uint64(0xFFFF)).sum(axis=1, dtype=np.int64) - 2 * 0xFFFF
    values: Array = sums.reshape(shape) / (0x10000 / sqrt(3))
    return values


def lora(title: str, modules: Mapping[str, tuple[int, ...]], rank: int, alpha: float | None) -> Tensors:
    """Factors whose rank ``j`` counts as ``1 / (j + 1)``, as trained ones roughly do."""
    tensors: Tensors = {}
    for module, (rows, *columns) in modules.items():
        kernel = tuple(1 for _ in columns[1:])
        up = noise(f"{title} {module} up", (rows, rank)) / np.arange(1, rank + 1) / sqrt(rows)
        down = noise(f"{title} {module} down", (rank, *columns)) / sqrt(prod(columns))
        tensors[f"{module}.lora_up.weight"] = up.reshape(rows, rank, *kernel).astype("<f2")
        tensors[f"{module}.lora_down.weight"] = down.astype("<f2")
        if alpha is not None:
            tensors[f"{module}.alpha"] = np.array(alpha, dtype="<f2")
    return tensors


def checkpoint(step: int) -> Tensors:
    """A DyLoRA run's LoRA after ``step`` steps: what it learns, and less noise each time."""
    learnt = lora("sketch", SKETCH, rank=4, alpha=4.0)
    strayed = lora(f"sketch at {step}", SKETCH, rank=4, alpha=4.0)
    tensors: Tensors = {}
    for name, values in learnt.items():
        far = 0.0 if name.endswith(".alpha") else 500 / step
        tensors[name] = (values.astype("<f8") + far * strayed[name].astype("<f8")).astype("<f2")
    return tensors


def excerpt() -> Tensors:
    """Eleven of the model's 1131 tensors, one of them of integers: none of the VAE, few of the rest."""
    tensors: Tensors = {f"{CLIP}embeddings.position_ids": np.arange(77, dtype="<i8").reshape(1, 77)}
    for name, shape in EXCERPT.items():
        values = noise(name, shape) * 0.03125
        is_norm = "norm.weight" in name
        tensors[name] = (values + 1.0 if is_norm else values).astype("<f2")
    return tensors


def make(folder: Path) -> tuple[Path, ...]:
    """Write the files into ``folder``; returns their paths."""
    ink = lora("ink-style", {**ATTENTION, **TIME}, rank=8, alpha=4.0)
    ink.update(lora("ink-style", CONVOLUTIONS, rank=4, alpha=1.0))
    lantern = lora("lantern-char", {**ATTENTION, **TEXT_ENCODER}, rank=12, alpha=None)
    return (
        _write(folder / "ink-style.safetensors", ink, INK),
        _write(folder / "lantern-char.safetensors", lantern, LANTERN),
        _write(folder / "sd15-excerpt.safetensors", excerpt(), {"format": "pt"}),
        *(_write(folder / f"sketch-{n}.safetensors", checkpoint(n), _sketch(n)) for n in SKETCH_STEPS),
    )


def _sketch(step: int) -> dict[str, str]:
    return {
        **COMMON,
        "modelspec.title": f"sketch-{step}",
        "ss_network_module": "networks.dylora",
        "ss_network_alpha": "4.0",
        "ss_network_args": '{"unit": 1}',
        "ss_network_dim": "4",
        "ss_output_name": "sketch",
        "ss_steps": str(step),
    }


def _write(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> Path:
    dtypes = {"<f2": "F16", "<i8": "I64"}
    specs = library_order({n: TensorSpec(dtypes[t.dtype.str], t.shape) for n, t in tensors.items()})
    data: Iterable[tuple[str, tuple[bytes]]] = ((name, (tensors[name].tobytes(),)) for name in specs)
    with path.open("wb") as stream:
        write_safetensors(stream, specs, data, metadata)
    return path


def main() -> None:
    """Write the files into the folder that is named, or into this one."""
    parser = argparse.ArgumentParser(description="Write the inputs of the example recipes.")
    parser.add_argument("folder", type=Path, nargs="?", default=HERE, help="where to write them")
    make(parser.parse_args().folder)


if __name__ == "__main__":
    main()
