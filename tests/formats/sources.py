"""Weights in memory as a TensorSource, and small LoRAs to put into one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lorapipe.weights.specs import TensorSpec

__all__ = ["HeaderSource", "MemorySource", "dense", "factors", "seeded"]

NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int64: "I64", torch.int32: "I32",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


class HeaderSource:
    """Names, shapes and dtypes without a byte of data: reading fails."""

    def __init__(self, tensors: Mapping[str, TensorSpec], metadata: Mapping[str, str] = {}) -> None:
        self.tensors = tensors
        self.metadata = metadata

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytearray:
        raise AssertionError(f"{name} was read: a header was to do")


class MemorySource(HeaderSource):
    def __init__(self, values: Mapping[str, Tensor], metadata: Mapping[str, str] = {}) -> None:
        super().__init__({n: TensorSpec(NAMES[t.dtype], tuple(t.shape)) for n, t in values.items()}, metadata)
        self.values = values

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytearray:
        value = self.values[name] if stop is None and start == 0 else self.values[name][start:stop]
        return bytearray(value.clone().reshape(-1).view(torch.uint8).numpy().tobytes())


def seeded(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def factors(
    stem: str,
    up: tuple[int, ...],
    down: tuple[int, ...],
    alpha: Tensor | float | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> dict[str, Tensor]:
    """The tensors of one module in kohya's spelling."""
    made = {
        f"{stem}.lora_up.weight": seeded(*up, seed=2 * seed, dtype=dtype),
        f"{stem}.lora_down.weight": seeded(*down, seed=2 * seed + 1, dtype=dtype),
    }
    if alpha is not None:
        made[f"{stem}.alpha"] = alpha if isinstance(alpha, Tensor) else torch.tensor(alpha)
    return made


def dense(values: Mapping[str, Tensor], stem: str, scale: float) -> Tensor:
    """``scale * up @ down`` of a file's tensors as ``[O, I*k]`` in float64."""
    up = values[f"{stem}.lora_up.weight"].to(torch.float64).flatten(1)
    down = values[f"{stem}.lora_down.weight"].to(torch.float64).flatten(1)
    return scale * (up @ down)
