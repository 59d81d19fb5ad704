"""The data: checkpoints and LoRAs with real names and shapes and made-up numbers.

Each file is a function of its name alone. Weights are normal with standard deviation
1/sqrt(inputs); a LoRA's deltas have singular values falling as 1/i and their components
mixed by a rotation, as training leaves them.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.layouts import Module, Tensor, modules, tensors

__all__ = ["Checkpoint", "Lora", "make_checkpoint", "make_headers", "make_lora", "make_map"]

_SIZES = {"F16": 2, "F32": 4, "I64": 8}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint to be made: one in ``every`` tensors of a layout, its axes divided."""

    layout: str
    divide: int = 1
    every: int = 1

    @property
    def name(self) -> str:
        return f"{self.layout}-d{self.divide}-e{self.every}.safetensors"


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA to be made, in fp16, alpha half its rank; ``seed`` tells two of one rank apart."""

    layout: str
    rank: int
    seed: int
    kind: str = "attention"
    divide: int = 1
    every: int = 1
    take: int | None = None
    """That many modules, evenly spaced among all in the order of their shapes; ``None`` for all."""

    @property
    def alpha(self) -> float:
        return self.rank / 2

    @property
    def name(self) -> str:
        taken = "" if self.take is None else f"-t{self.take}"
        which = f"{self.layout}-d{self.divide}-e{self.every}{taken}"
        return f"{which}-{self.kind}-r{self.rank}-s{self.seed}.safetensors"

    def modules(self) -> list[Module]:
        """The modules it has."""
        found = modules(self.layout, self.kind, divide=self.divide, every=self.every)
        if self.take is None or self.take >= len(found):
            return found
        step = len(found) / self.take
        # In the order of names they repeat with the model's blocks, and even steps would miss shapes.
        ordered = sorted(found, key=lambda module: (module.shape, module.stem))
        taken = [ordered[int((i + 0.5) * step)] for i in range(self.take)]
        return sorted(taken, key=lambda module: module.stem)


def make_checkpoint(folder: Path, what: Checkpoint) -> Path:
    """The file, made if it is not there. One tensor at a time is in memory."""
    known = tensors(what.layout, divide=what.divide, every=what.every)
    # Wide dtypes first, then by name: the order of the safetensors library.
    order = sorted(known.values(), key=lambda tensor: (-_SIZES[tensor.dtype], tensor.key))
    return _made(folder / what.name, order, {"format": "pt"}, lambda tensor: _weight(what.name, tensor))


def make_lora(folder: Path, what: Lora) -> Path:
    """The file, made if it is not there; one module at a time is in memory."""
    names = {module.stem: module for module in what.modules()}
    latest: dict[str, Any] = {}

    def numbers(tensor: Tensor) -> Any:
        stem, _, part = tensor.key.partition(".")
        if part == "alpha":
            return what.alpha
        if latest.get("stem") != stem:
            latest.update(_factors(what, names[stem]), stem=stem)
        return latest[part].reshape(tensor.shape)

    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(what.rank),
        "ss_network_alpha": str(what.alpha),
        "ss_base_model_version": "sd_v1" if what.layout == "sd15" else "sdxl_base_v1-0",
        "ss_v2": "False",
    }
    return _made(folder / what.name, _lora_tensors(what), metadata, numbers)


def make_headers(folder: Path, what: Sequence[Lora]) -> list[Path]:
    """LoRA files of which only the headers are written: the data are a hole, and read as zeros."""
    made = []
    for lora in what:
        path = folder / f"header-{lora.name}"
        if not path.exists():
            header, size = _header(_lora_tensors(lora), {"ss_base_model_version": "sdxl_base_v1-0"})
            with path.open("wb") as file:
                file.write(header)
                file.truncate(len(header) + size)
        made.append(path)
    return made


def make_map(folder: Path, layout: str, kind: str, divide: int) -> Path:
    """For programs that know no names: ``{module: [tensor, first row, end row]}``, rows ``null`` for all."""
    path = folder / f"{layout}-d{divide}-{kind}.json"
    found = modules(layout, kind, divide=divide)
    text = json.dumps({m.stem: [m.key, *(m.rows or (None, None))] for m in found}, indent=0)
    path.write_text(text, encoding="utf-8")
    return path


def _lora_tensors(what: Lora) -> list[Tensor]:
    found = []
    for module in what.modules():
        out, *into = module.shape
        kernel = [1] * len(module.shape[2:])
        found += [
            Tensor(f"{module.stem}.alpha", "F16", ()),
            Tensor(f"{module.stem}.lora_down.weight", "F16", (what.rank, *into)),
            Tensor(f"{module.stem}.lora_up.weight", "F16", (out, what.rank, *kernel)),
        ]
    return found


def _weight(seed: str, tensor: Tensor) -> Any:
    import numpy as np

    count = int(np.prod(tensor.shape, dtype=np.int64))
    if tensor.dtype == "I64":
        return np.arange(count).reshape(tensor.shape)
    numbers = _generator(seed, tensor.key).standard_normal(tensor.shape, dtype=np.float32)
    if len(tensor.shape) > 1:
        return numbers / np.float32(np.sqrt(count / tensor.shape[0]))
    return np.float32(1) + np.float32(0.1) * numbers


def _factors(what: Lora, module: Module) -> dict[str, Any]:
    import numpy as np

    generator = _generator(what.name.replace(f"-t{what.take}-", "-"), module.stem)
    out, into, rank = module.shape[0], int(np.prod(module.shape[1:])), what.rank
    spectrum = 1 / np.arange(1, rank + 1)
    spectrum *= generator.uniform(0.6, 3.4) / np.sqrt(spectrum @ spectrum)  # alpha / rank is a half
    mixed, _ = np.linalg.qr(generator.standard_normal((rank, rank)))
    up = generator.standard_normal((out, rank)) / np.sqrt(out) * np.sqrt(spectrum)
    down = generator.standard_normal((rank, into)) / np.sqrt(into) * np.sqrt(spectrum)[:, None]
    return {"lora_up.weight": up @ mixed, "lora_down.weight": mixed.T @ down}


def _generator(*seeds: str) -> Any:
    import numpy as np

    return np.random.Generator(np.random.SFC64([zlib.crc32(seed.encode()) for seed in seeds]))


def _header(order: Iterable[Tensor], metadata: dict[str, str]) -> tuple[bytes, int]:
    header: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for tensor in order:
        end = offset + _size(tensor)
        header[tensor.key] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, offset


def _size(tensor: Tensor) -> int:
    size = _SIZES[tensor.dtype]
    for axis in tensor.shape:
        size *= axis
    return size


def _made(
    path: Path, order: Sequence[Tensor], metadata: dict[str, str], numbers: Callable[[Tensor], Any]
) -> Path:
    import numpy as np

    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    kinds = {"F16": "<f2", "F32": "<f4", "I64": "<i8"}
    with partial.open("wb") as file:
        file.write(_header(order, metadata)[0])
        for tensor in order:
            file.write(np.asarray(numbers(tensor)).astype(kinds[tensor.dtype]).tobytes())
    return partial.rename(path)
