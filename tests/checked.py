"""Steps that checks are about, and outputs above and below them."""

from __future__ import annotations

from .bench import Bench

__all__ = ["steps_to_check"]

_STEPS = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: [a, b]}
    small: {svd-resize: both, rank: 2}
    mixed: {shuffle: small}
    exact: {save: both, to: exact.safetensors}
    lora: {save: small, to: lora.safetensors}
    secret: {save: mixed, to: secret.safetensors}
"""


def steps_to_check(bench: Bench) -> str:
    """Two LoRAs, written, and what a recipe makes of them."""
    bench.lora("a", rank=4, seed=1)
    bench.lora("b", rank=4, seed=2)
    return _STEPS
