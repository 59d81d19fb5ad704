"""lycoris-lora extracts the same LoRA of a difference: the same ranks by its rules, the same products."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import lorapipe

from .kit import Client

LINEAR = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
CONV = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
STEMS = {
    LINEAR: "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    CONV: "lora_unet_down_blocks_0_resnets_0_conv1",
}
SHAPES = {LINEAR: (60, 48), CONV: (56, 40, 3, 3)}


def checkpoints(folder: Path) -> dict[str, torch.Tensor]:
    """Two checkpoints in files, and what they differ by: values that fall slowly."""
    generator = torch.Generator().manual_seed(1)
    base, tuned, differences = {}, {}, {}
    for key, shape in SHAPES.items():
        flat = torch.randn(shape[0], 48 if key == LINEAR else 360, generator=generator, dtype=torch.float64)
        u, s, vt = torch.linalg.svd(flat, full_matrices=False)
        falling = (u * s[0] / torch.arange(1, len(s) + 1)) @ vt
        base[key] = torch.randn(shape, generator=generator, dtype=torch.float64)
        tuned[key] = base[key] + falling.reshape(shape)
        differences[key] = tuned[key] - base[key]
    save_file(base, folder / "base.safetensors")
    save_file(tuned, folder / "tuned.safetensors")
    return differences


@pytest.mark.parametrize(
    ("mode", "param", "rank", "rule"),
    [
        ("fixed", 7, 7, None),
        ("threshold", 1.7, 99, {"threshold": 1.7}),
        ("ratio", 0.11, 99, {"sv-ratio": 1 / 0.11}),
        ("quantile", 0.6, 99, {"quantile": 0.6}),
    ],
)
def test_each_rule_gives_what_lycoris_extracts(
    client: Client, mode: str, param: float, rank: int, rule: dict[str, float] | None
) -> None:
    from lycoris.utils import extract_conv, extract_linear

    differences = checkpoints(client.folder)
    base, tuned = (
        lorapipe.load(client.folder / f"{name}.safetensors", as_="checkpoint", family="sd1")
        for name in ("base", "tuned")
    )
    ours = lorapipe.extract_lora(tuned, base, rank=rank, dynamic=rule)
    found = load_file(lorapipe.save(ours, client.folder / "x.safetensors"))
    for key, difference in differences.items():
        of_lycoris = extract_linear if difference.ndim == 2 else extract_conv
        (down, up, _), kind = of_lycoris(difference.float(), mode, param)
        assert kind == "low rank"
        mine = [found[f"{STEMS[key]}.lora_{part}.weight"] for part in ("up", "down")]
        assert mine[1].shape == down.shape
        assert 1 < len(down) < min(difference.shape[:2]) / 2
        theirs = up.double().flatten(1) @ down.double().flatten(1)
        product = mine[0].double().flatten(1) @ mine[1].double().flatten(1)
        assert torch.linalg.norm(product - theirs) < 2e-6 * torch.linalg.norm(theirs)
