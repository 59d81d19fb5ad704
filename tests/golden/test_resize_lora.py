"""Scores against those of the program they come from: elias-gaeros/resize_lora efe6f69, run with torch 2.13.

The numbers below are what its ``ResizeRecipe.score_dims`` gave, in float32, for the LoRA and the base
that ``files`` writes. Of OpenCLIP's fused weight it takes the rows of k for q and those of q for k
(``loralib/sdxl_mapper.py``), so that the LoRA has v alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

import lorapipe
from lorapipe.steps.kind import Context
from lorapipe.steps.scoring import base_weights, read_score
from lorapipe.weights.algebra.resize import resize
from lorapipe.weights.inference.ranks import Ranks

from ..steps.kit import given, load, options

UNET = "model.diffusion_model."
MODULES = {
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q": (
        f"{UNET}input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight",
        (12, 12),
    ),
    "lora_unet_input_blocks_4_1_transformer_blocks_0_ff_net_0_proj": (
        f"{UNET}input_blocks.4.1.transformer_blocks.0.ff.net.0.proj.weight",
        (20, 12),
    ),
    "lora_unet_input_blocks_1_0_in_layers_2": (f"{UNET}input_blocks.1.0.in_layers.2.weight", (10, 6, 3, 3)),
    "lora_te2_text_model_encoder_layers_0_self_attn_v_proj": (
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight",
        (8, 8),
    ),
}
RANK = 4

SCORES = {
    "spn_ckpt": [[-0.6314, -1.3207, -1.7036, -2.4338], [-0.5765, -1.212, -1.6274, -2.2672],
                 [-0.5142, -1.1238, -1.518, -2.2047], [-0.6813, -1.19, -1.8638, -2.5554]],
    "fro_ckpt": [[-0.9232, -1.6126, -1.9954, -2.7257], [-0.9258, -1.5613, -1.9767, -2.6165],
                 [-0.9118, -1.5214, -1.9155, -2.6023], [-0.9134, -1.4221, -2.0958, -2.7875]],
    "subspace": [[0.614, -0.162, -0.6698, -1.3635], [0.3521, -0.5544, 0.7533, -0.8196],
                 [1.4917, 0.3376, 0.1102, 0.2613], [0.126, -0.0861, -1.0444, -1.6856]],
    "spn_lora": [[0.0, -0.6893, -1.0722, -1.8025], [0.0, -0.6355, -1.0509, -1.6907],
                 [0.0, -0.6096, -1.0038, -1.6906], [0.0, -0.5087, -1.1824, -1.8741]],
    "fro_lora": [[-0.0104, -0.6998, -1.0826, -1.8129], [-0.013, -0.6485, -1.0639, -1.7037],
                 [-0.0148, -0.6244, -1.0186, -1.7054], [-0.0208, -0.5295, -1.2032, -1.8949]],
    "params": [[-1.7405, -2.4298, -2.8127, -3.543], [-1.7604, -2.3959, -2.8113, -3.4511],
               [-1.8835, -2.4931, -2.8873, -3.5741], [-1.7217, -2.2304, -2.9041, -3.5958]],
    "spn_ckpt=3,params=1": [[-0.9087, -1.598, -1.9809, -2.7111], [-0.8725, -1.508, -1.9234, -2.5632],
                            [-0.8565, -1.4661, -1.8603, -2.5471], [-0.9414, -1.4501, -2.1238, -2.8155]],
    "fro_ckpt=0.8,subspace=0.1,spn_lora=0.1": [
        [-0.6772, -1.3752, -1.7706, -2.4971], [-0.7054, -1.368, -1.6111, -2.3442],
        [-0.5802, -1.2443, -1.6218, -2.2248], [-0.7181, -1.1972, -1.8993, -2.586]],
}  # fmt: skip
"""By the peer's recipe, module by module and component by component."""

NAMES = {
    "spn_ckpt": "spectral",
    "fro_ckpt": "frobenius",
    "subspace": "subspace",
    "spn_lora": "lora-spectral",
    "fro_lora": "lora-frobenius",
    "params": "params",
}


def numbers(shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float64]:
    i = np.arange(np.prod(shape), dtype=np.int64)
    return ((i * i * 7919 + i * 104729 + seed * 15485863) % 1009).astype(np.float64).reshape(
        shape
    ) / 1009 - 0.5


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    tensors: dict[str, Any] = {}
    base: dict[str, Any] = {}
    for seed, (stem, (key, shape)) in enumerate(MODULES.items()):
        out, into, *kernel = shape
        up = numbers((out, RANK), 4 * seed + 1) * [1.0, 0.3, 0.1, 0.02]
        tensors[f"{stem}.lora_up.weight"] = up.reshape(out, RANK, *(1 for _ in kernel)).astype("float32")
        tensors[f"{stem}.lora_down.weight"] = numbers((RANK, into, *kernel), 4 * seed + 2).astype("float32")
        tensors[f"{stem}.alpha"] = np.array(2.0, "float32")
        whole = (3 * out, into) if "in_proj" in key else shape
        base[key] = numbers(whole, 4 * seed + 3).astype("float16")
    base[f"{UNET}input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight"] = np.zeros((12, 20), "float16")
    save_file(tensors, tmp_path / "lora.safetensors", {"ss_base_model_version": "sdxl_base_v1-0"})
    save_file(base, tmp_path / "base.safetensors")
    return {name: tmp_path / f"{name}.safetensors" for name in ("lora", "base")}


def parsed(recipe: str) -> dict[str, float]:
    parts = (part.partition("=") for part in recipe.split(","))
    return {NAMES[name]: float(value or 1.0) for name, _, value in parts}


@pytest.mark.parametrize("recipe", SCORES)
def test_scores_are_the_peers(files: dict[str, Path], recipe: str) -> None:
    """All of them, to the four digits that are noted."""
    adapter, base = load(files["lora"]), load(files["base"])
    inputs = given(svd_resize=adapter, **{"score.against": base})
    params = options("svd-resize", score={"by": parsed(recipe), "threshold": -1000.0})
    weights = base_weights(inputs, "svd-resize", params, Context())
    found = resize(adapter, Ranks(score=read_score(params)), base=weights).scores
    stems = {known.spelling.stem: module for module, known in adapter.spec.modules.items()}
    np.testing.assert_allclose([found[stems[stem]] for stem in MODULES], SCORES[recipe], atol=1.01e-4)


@pytest.mark.parametrize(
    ("by", "threshold", "expected"),
    [
        ("spectral", -1.2, [1, 1, 2, 2]),  # spn_ckpt=1,thr=-1.2
        ("spectral", -2.5, [4, 4, 4, 3]),  # spn_ckpt=1,thr=-2.5
        ("subspace", -1.0, [3, 4, 4, 2]),  # subspace=1,thr=-1
    ],
)
def test_its_recipes_keep_what_it_keeps(
    files: dict[str, Path], tmp_path: Path, by: str, threshold: float, expected: list[int]
) -> None:
    lora, base = lorapipe.load(files["lora"]), lorapipe.load(files["base"])
    small = lorapipe.svd_resize(lora, score={"against": base, "by": by, "threshold": threshold})
    tensors = load_file(lorapipe.save(small, tmp_path / "small.safetensors"))
    assert [len(tensors.get(f"{stem}.lora_down.weight", ())) for stem in MODULES] == expected
