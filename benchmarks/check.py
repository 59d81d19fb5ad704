"""What a result is worth: held against float64 sums made with numpy alone, on a sample of modules.

Nothing of lorapipe's arithmetic or formats is used here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.layouts import Module

__all__ = ["check_concat", "check_merge", "check_resize", "check_sweep"]

_INDEX = "model.safetensors.index.json"
_ADAPTER = "base_model.model."

Matrix = NDArray[np.float64]
Terms = Sequence[tuple[Path, float]]

_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}


class _File:
    """The tensors of a safetensors file, in float64, as they are asked for."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            self._header: dict[str, Any] = json.loads(file.read(size))
        self._path, self._start = path, 8 + size

    def __contains__(self, key: str) -> bool:
        return key in self._header

    def __getitem__(self, key: str) -> Matrix:
        about = self._header[key]
        first, end = about["data_offsets"]
        with self._path.open("rb") as file:
            file.seek(self._start + first)
            data = file.read(end - first)
        if about["dtype"] == "BF16":
            numbers = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        else:
            numbers = np.frombuffer(data, _DTYPES[about["dtype"]])
        shaped: Matrix = numbers.astype(np.float64).reshape(about["shape"])
        return shaped

    def delta(self, stem: str) -> Matrix:
        """The formula of kohya's files, alpha / rank * up @ down: [O, I*k]."""
        down = self[f"{stem}.lora_down.weight"]
        up = self[f"{stem}.lora_up.weight"].reshape(-1, len(down))
        alpha = float(self[f"{stem}.alpha"]) if f"{stem}.alpha" in self else len(down)
        return alpha / len(down) * (up @ down.reshape(len(down), -1))


class _Folder:
    """The same of a folder of shards."""

    def __init__(self, path: Path) -> None:
        self._where: dict[str, str] = json.loads((path / _INDEX).read_text(encoding="utf-8"))["weight_map"]
        self._files = {name: _File(path / name) for name in set(self._where.values())}

    def __contains__(self, key: str) -> bool:
        return key in self._where and key in self._files[self._where[key]]

    def __getitem__(self, key: str) -> Matrix:
        return self._files[self._where[key]][key]


class _Adapter:
    """The deltas of PEFT's folder, lora_alpha / r * B @ A: [O, I]."""

    def __init__(self, path: Path) -> None:
        config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
        self._scale = config["lora_alpha"] / config["r"]
        self._file = _File(path / "adapter_model.safetensors")

    def delta(self, stem: str) -> Matrix:
        up, down = (self._file[f"{_ADAPTER}{stem}.lora_{part}.weight"] for part in "BA")
        product: Matrix = self._scale * (up @ down)
        return product


def _model(path: Path) -> _File | _Folder:
    return _Folder(path) if path.is_dir() else _File(path)


def _lora(path: Path) -> _File | _Adapter:
    return _Adapter(path) if path.is_dir() else _File(path)


def check_merge(out: Path, base: Path, terms: Terms, modules: Sequence[Module]) -> dict[str, float]:
    """``error``: ||out - exact|| / ||exact|| over the sample; ``exact``: share of values rounded right.

    Right is the float64 sum rounded to fp16 once; so the error of a perfect result is that
    of the rounding, not 0. Models are files or folders, LoRAs kohya's files or PEFT's folders.
    """
    made, old, loras = _model(out), _model(base), [(_lora(path), weight) for path, weight in terms]
    gap, norm, right, count = 0.0, 0.0, 0, 0
    for module in modules:
        if module.key not in made:
            return {"error": float("nan")}
        first, end = module.rows or (0, len(old[module.key]))
        exact = old[module.key][first:end]
        exact = exact + _sum(loras, module.stem).reshape(exact.shape)
        found = made[module.key][first:end]
        gap += float(np.sum((found - exact) ** 2))
        norm += float(np.sum(exact**2))
        right += int(np.count_nonzero(found == exact.astype(np.float16)))
        count += exact.size
    return {"error": (gap / norm) ** 0.5, "exact": right / count}


def check_concat(out: Path, terms: Terms, modules: Sequence[Module]) -> dict[str, float]:
    """``error``: ||delta of out - sum|| / ||sum||, over the sample of modules."""
    made, loras = _File(out), [(_File(path), weight) for path, weight in terms]
    gap, norm = 0.0, 0.0
    for module in modules:
        exact = _sum(loras, module.stem)
        gap += float(np.sum((made.delta(module.stem) - exact) ** 2))
        norm += float(np.sum(exact**2))
    return {"error": (gap / norm) ** 0.5}


def check_resize(out: Path, terms: Terms, modules: Sequence[Module], rank: int) -> dict[str, float]:
    """``error`` as for concat; ``optimum``: that error over the least that ``rank`` allows.

    The least is the tail of the singular values, from numpy's SVD of the core that the QRs
    of the stacked factors leave, in float64 (Eckart and Young, 1936).
    """
    made, loras = _File(out), [(_File(path), weight) for path, weight in terms]
    gap, tail, norm = 0.0, 0.0, 0.0
    for module in modules:
        exact = _sum(loras, module.stem)
        gap += float(np.sum((made.delta(module.stem) - exact) ** 2))
        norm += float(np.sum(exact**2))
        tail += float(np.sum(_spectrum(loras, module.stem)[rank:] ** 2))
    return {"error": (gap / norm) ** 0.5, "optimum": (gap / tail) ** 0.5}


def check_sweep(
    out: Path, terms: Terms, modules: Sequence[Module], variants: Sequence[tuple[float, int]]
) -> dict[str, float]:
    """The worst of what ``check_resize`` finds of the variants: strengths of the first LoRA and ranks."""
    (first, _), *others = terms
    found = [
        check_resize(out / f"s{strength}-r{rank}.safetensors", [(first, strength), *others], modules, rank)
        for strength, rank in variants
    ]
    return {name: max(figures[name] for figures in found) for name in found[0]}


def _sum(loras: Sequence[tuple[_File | _Adapter, float]], stem: str) -> Matrix:
    first, *others = (weight * file.delta(stem) for file, weight in loras)
    total: Matrix = first
    for delta in others:
        total = total + delta
    return total


def _spectrum(loras: Sequence[tuple[_File, float]], stem: str) -> Matrix:
    ups, downs = [], []
    for file, weight in loras:
        down = file[f"{stem}.lora_down.weight"]
        ups.append(
            weight
            * float(file[f"{stem}.alpha"])
            / len(down)
            * file[f"{stem}.lora_up.weight"].reshape(-1, len(down))
        )
        downs.append(down.reshape(len(down), -1))
    left, right = _triangle(np.concatenate(ups, axis=1)), _triangle(np.concatenate(downs).T)
    values: Matrix = np.linalg.svd(left @ right.T, full_matrices=False, compute_uv=False)
    return values


def _triangle(matrix: Matrix) -> Matrix:
    found: Matrix = np.linalg.qr(matrix)[1]
    return found
