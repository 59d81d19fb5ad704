"""LoRA files and deltas as the formula reads them: independent of lorapipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.torch import load_file

__all__ = ["Factors", "deltas", "factors", "product", "ranks", "relative"]

Factors = tuple[np.ndarray, np.ndarray, float]
"""up [O, r], down [r, I*k] in float64, and alpha (the rank where the file has none)."""


def factors(path: Path) -> dict[str, Factors]:
    """Every module of a kohya file by its name."""
    tensors = load_file(path)
    found = {}
    for name, up in tensors.items():
        if name.endswith(".lora_up.weight"):
            stem = name.removesuffix(".lora_up.weight")
            down = tensors[f"{stem}.lora_down.weight"].double().flatten(1).numpy()
            alpha = tensors.get(f"{stem}.alpha")
            rank = down.shape[0]
            scale = rank if alpha is None else float(alpha)
            found[stem] = (up.double().reshape(-1, rank).numpy(), down, float(scale))
    return found


def product(module: Factors) -> np.ndarray:
    """alpha / rank * up @ down, [O, I*k] in float64."""
    up, down, alpha = module
    return alpha / down.shape[0] * (up @ down)


def deltas(path: Path) -> dict[str, np.ndarray]:
    """The delta of every module."""
    return {stem: product(module) for stem, module in factors(path).items()}


def ranks(path: Path) -> dict[str, int]:
    return {stem: down.shape[0] for stem, (_, down, _) in factors(path).items()}


def relative(found: np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))
