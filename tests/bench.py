"""A folder of small real-named SD1.5 files, with the numbers behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["CONV1", "KEYS", "PROJ_IN", "SHAPES", "TE", "TO_Q", "Bench"]

TE = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
TO_Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
PROJ_IN = "lora_unet_down_blocks_0_attentions_0_proj_in"
CONV1 = "lora_unet_down_blocks_0_resnets_0_conv1"

KEYS = {
    TE: "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight",
    TO_Q: "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight",
    PROJ_IN: "model.diffusion_model.input_blocks.1.1.proj_in.weight",
    CONV1: "model.diffusion_model.input_blocks.1.0.in_layers.2.weight",
}
"""Four modules of Stable Diffusion 1.5, one of each sort, and their checkpoint keys."""

SHAPES: Mapping[str, tuple[int, ...]] = {
    TE: (24, 16),
    TO_Q: (20, 20),
    PROJ_IN: (20, 20, 1, 1),
    CONV1: (20, 12, 3, 3),
}
"""Their weights' shapes here: the real ones, divided."""


@dataclass(frozen=True)
class Bench:
    """A folder with a recipe's inputs, a store of its own, and the numbers behind each file.

    ``deltas`` holds, by file stem and module, the delta in float64 as the formula
    ``alpha / rank * up @ down`` gives it; ``weights`` a checkpoint's tensors in float64.
    """

    folder: Path
    deltas: dict[str, dict[str, Any]] = field(default_factory=dict)
    weights: dict[str, dict[str, Any]] = field(default_factory=dict)

    def lora(
        self,
        name: str,
        rank: int = 4,
        alpha: float | None = 2.0,
        *,
        seed: int = 0,
        dtype: str = "float32",
        modules: Mapping[str, tuple[int, ...]] = SHAPES,
        metadata: Mapping[str, str] | None = None,
    ) -> Path:
        """Write a kohya LoRA with the safetensors library; factors are random, seeded."""
        import torch
        from safetensors.torch import save_file

        generator = torch.Generator().manual_seed(seed)
        tensors, deltas = {}, {}
        for stem, (out, into, *kernel) in modules.items():
            ones = [1] * len(kernel)
            up = torch.randn(out, rank, *ones, generator=generator).to(getattr(torch, dtype))
            down = torch.randn(rank, into, *kernel, generator=generator).to(getattr(torch, dtype))
            tensors |= {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down}
            if alpha is not None:
                tensors[f"{stem}.alpha"] = torch.tensor(alpha)
            strength = 1.0 if alpha is None else alpha / rank
            product = up.double().reshape(out, rank) @ down.double().reshape(rank, -1)
            deltas[stem] = (strength * product).numpy()
        path = self.folder / f"{name}.safetensors"
        told = {"ss_base_model_version": "sd_v1", "ss_v2": "False"} if metadata is None else dict(metadata)
        save_file(tensors, path, told)
        self.deltas[name] = deltas
        return path

    def lycoris(self, name: str, *, seed: int = 0) -> Path:
        """Write a LoHa, a LoKr whose kernel is not told, a full difference and a LoRA, one a module."""
        import numpy as np
        from safetensors.numpy import save_file

        rng = np.random.default_rng(seed)
        shapes = {
            TO_Q: {"hada_w1_a": (20, 2), "hada_w1_b": (2, 20), "hada_w2_a": (20, 2), "hada_w2_b": (2, 20)},
            CONV1: {"lokr_w1": (4, 3), "lokr_w2_a": (5, 2), "lokr_w2_b": (2, 4 * 9)},
            PROJ_IN: {"diff": (20, 20, 1, 1)},
            TE: {"lora_up.weight": (24, 3), "lora_down.weight": (3, 16)},
        }
        held = {
            stem: {role: rng.standard_normal(shape).astype("float32") for role, shape in of_module.items()}
            for stem, of_module in shapes.items()
        }
        wide = {s: {role: a.astype("float64") for role, a in m.items()} for s, m in held.items()}
        hada, lokr, lora = wide[TO_Q], wide[CONV1], wide[TE]
        halves = [hada[f"hada_w{i}_a"] @ hada[f"hada_w{i}_b"] for i in (1, 2)]
        self.deltas[name] = {
            TO_Q: 0.5 / 2 * halves[0] * halves[1],
            CONV1: 0.5 / 2 * np.kron(lokr["lokr_w1"], lokr["lokr_w2_a"] @ lokr["lokr_w2_b"]),
            PROJ_IN: wide[PROJ_IN]["diff"].reshape(20, 20),
            TE: 0.5 / 3 * lora["lora_up.weight"] @ lora["lora_down.weight"],
        }
        tensors = {f"{stem}.{role}": a for stem, of_module in held.items() for role, a in of_module.items()}
        tensors |= {f"{stem}.alpha": np.array(0.5, "float32") for stem in (TO_Q, CONV1, TE)}
        path = self.folder / f"{name}.safetensors"
        save_file(tensors, path, {"ss_base_model_version": "sd_v1", "ss_v2": "False"})
        return path

    def checkpoint(
        self,
        name: str = "base",
        *,
        seed: int = 99,
        dtype: str = "float16",
        shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    ) -> Path:
        """Write an SD1.5 checkpoint's excerpt: the four weights, a bias, an integer tensor, a VAE tensor."""
        import torch
        from safetensors.torch import save_file

        generator = torch.Generator().manual_seed(seed)
        kind = getattr(torch, dtype)
        tensors = {
            KEYS[stem]: torch.randn(*shape, generator=generator).to(kind) for stem, shape in shapes.items()
        }
        tensors["model.diffusion_model.input_blocks.1.1.proj_in.bias"] = torch.randn(
            20, generator=generator
        ).to(kind)
        tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(7)[None]
        tensors["first_stage_model.decoder.conv_in.bias"] = torch.randn(5, generator=generator)
        path = self.folder / f"{name}.safetensors"
        save_file(tensors, path, {"format": "pt"})
        self.weights[name] = {key: tensor.double().numpy() for key, tensor in tensors.items()}
        return path

    def recipe(self, steps: str, name: str = "r.yaml", head: str = "") -> Path:
        """Write a recipe from its steps, one a line."""
        path = self.folder / name
        body = "".join(f"  {line.strip()}\n" for line in steps.strip().splitlines())
        path.write_text(f"lorapipe: 1\n{head}steps:\n{body}", encoding="utf-8")
        return path
