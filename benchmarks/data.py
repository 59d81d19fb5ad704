"""The data: checkpoints and LoRAs with real names and shapes and made-up numbers.

Each file is a function of its name alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.layouts import Module, Tensor, modules, tensors
from benchmarks.making import SIZES, factors, hollow, weight, written

__all__ = ["Checkpoint", "Lora", "make_checkpoint", "make_headers", "make_lora", "make_map"]


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

    @property
    def seeded(self) -> str:
        """What its numbers are drawn by: a part of a LoRA has those of the whole."""
        return self.name.replace(f"-t{self.take}-", "-")

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
    order = sorted(known.values(), key=lambda tensor: (-SIZES[tensor.dtype], tensor.key))
    return written(folder / what.name, order, {"format": "pt"}, lambda tensor: weight(what.name, tensor))


def make_lora(folder: Path, what: Lora) -> Path:
    """The file, made if it is not there; one module at a time is in memory."""
    names = {module.stem: module for module in what.modules()}
    latest: dict[str, Any] = {}

    def numbers(tensor: Tensor) -> Any:
        stem, _, part = tensor.key.partition(".")
        if part == "alpha":
            return what.alpha
        if latest.get("stem") != stem:
            up, down = factors(what.seeded, names[stem], what.rank)
            latest.update({"stem": stem, "lora_up.weight": up, "lora_down.weight": down})
        return latest[part].reshape(tensor.shape)

    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(what.rank),
        "ss_network_alpha": str(what.alpha),
        "ss_base_model_version": "sd_v1" if what.layout == "sd15" else "sdxl_base_v1-0",
        "ss_v2": "False",
    }
    return written(folder / what.name, _lora_tensors(what), metadata, numbers)


def make_headers(folder: Path, what: Sequence[Lora]) -> list[Path]:
    """LoRA files of which only the headers are written."""
    told = {"ss_base_model_version": "sdxl_base_v1-0"}
    return [hollow(folder / f"header-{lora.name}", _lora_tensors(lora), told) for lora in what]


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
