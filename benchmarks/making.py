"""How a file of made-up numbers comes about: drawn by names, written tensor by tensor.

Weights are normal with standard deviation 1/sqrt(inputs); a LoRA's deltas have singular values
falling as 1/i and their components mixed by a rotation, as training leaves them.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.layouts import Module, Tensor

__all__ = ["SIZES", "factors", "header", "hollow", "size", "weight", "written"]

SIZES = {"BF16": 2, "F16": 2, "F32": 4, "I64": 8}
"""Bytes of a value."""


def weight(seed: str, tensor: Tensor) -> Any:
    """The numbers of a checkpoint's tensor, a function of ``seed`` and its name."""
    import numpy as np

    count = int(np.prod(tensor.shape, dtype=np.int64))
    if tensor.dtype == "I64":
        return np.arange(count).reshape(tensor.shape)
    numbers = _generator(seed, tensor.key).standard_normal(tensor.shape, dtype=np.float32)
    if len(tensor.shape) > 1:
        return numbers / np.float32(np.sqrt(count / tensor.shape[0]))
    return np.float32(1) + np.float32(0.1) * numbers


def factors(seed: str, module: Module, rank: int) -> tuple[Any, Any]:
    """``up`` [O, r] and ``down`` [r, I*k] of a LoRA's module, for an alpha of half the rank."""
    import numpy as np

    generator = _generator(seed, module.stem)
    out, into = module.shape[0], int(np.prod(module.shape[1:]))
    spectrum = 1 / np.arange(1, rank + 1)
    spectrum *= generator.uniform(0.6, 3.4) / np.sqrt(spectrum @ spectrum)
    mixed, _ = np.linalg.qr(generator.standard_normal((rank, rank)))
    up = generator.standard_normal((out, rank)) / np.sqrt(out) * np.sqrt(spectrum)
    down = generator.standard_normal((rank, into)) / np.sqrt(into) * np.sqrt(spectrum)[:, None]
    return up @ mixed, mixed.T @ down


def _generator(*seeds: str) -> Any:
    import numpy as np

    return np.random.Generator(np.random.SFC64([zlib.crc32(seed.encode()) for seed in seeds]))


def size(tensor: Tensor) -> int:
    """Bytes of a tensor's data."""
    return SIZES[tensor.dtype] * math.prod(tensor.shape)


def header(order: Iterable[Tensor], metadata: Mapping[str, str]) -> tuple[bytes, int]:
    """What stands before the data of a safetensors file, and the bytes of the data."""
    told: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for tensor in order:
        end = offset + size(tensor)
        told[tensor.key] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, offset


def hollow(path: Path, order: Iterable[Tensor], metadata: Mapping[str, str]) -> Path:
    """A safetensors file of which only the header is written: the data are a hole, and read as zeros."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        told, nbytes = header(order, metadata)
        with path.open("wb") as file:
            file.write(told)
            file.truncate(len(told) + nbytes)
    return path


def written(
    path: Path, order: Sequence[Tensor], metadata: Mapping[str, str], numbers: Callable[[Tensor], Any]
) -> Path:
    """A safetensors file of tensors in that order, made if it is not there; one at a time is in memory."""
    import numpy as np

    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(header(order, metadata)[0])
        for tensor in order:
            file.write(_encoded(np.asarray(numbers(tensor)), tensor.dtype))
    return partial.rename(path)


def _encoded(array: Any, dtype: str) -> bytes:
    import numpy as np

    if dtype == "BF16":  # numpy has none: the upper half of fp32, rounded to nearest, ties to even
        bits = np.ascontiguousarray(array, "<f4").view("<u4")
        rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return bytes((rounded >> np.uint32(16)).astype("<u2").tobytes())
    kinds = {"F16": "<f2", "F32": "<f4", "I64": "<i8"}
    return bytes(array.astype(kinds[dtype]).tobytes())
