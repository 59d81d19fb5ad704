"""Small weights, and independent float64 references to hold results against.

Nothing here uses the algebra under test: references are dense numpy sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.filing.saving import saved_tensors
from lorapipe.weights.specs import (
    AdapterSpec,
    CheckpointSpec,
    ModuleId,
    ModuleSpec,
    Place,
    Spelling,
    TensorSpec,
)
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.structure import LowRank

Matrix = npt.NDArray[np.float64]

NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
LINEAR = ModuleId("unet", "attn.to_q.weight")
CONV = ModuleId("unet", "conv.weight")
POINT = ModuleId("unet", "proj_in.weight")
TEXT = ModuleId("te", "text.q_proj.weight")
SHAPES = {LINEAR: (12, 10), CONV: (9, 5, 3, 3), POINT: (8, 6, 1, 1), TEXT: (7, 11)}


def to_numpy(tensor: torch.Tensor) -> Matrix:
    array: Matrix = tensor.to(torch.float64).numpy()
    return array


def factors(shape: tuple[int, ...], rank: int, seed: int, dtype: torch.dtype = torch.float32) -> LowRank:
    rng = np.random.default_rng(seed)
    columns = int(np.prod(shape[1:]))
    up = torch.from_numpy(rng.standard_normal((shape[0], rank))).to(dtype)
    return LowRank(up, torch.from_numpy(rng.standard_normal((rank, columns))).to(dtype))


def delta(
    shape: tuple[int, ...],
    *terms: tuple[float, int],
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Delta:
    """A delta of random factors; each term is a coefficient and a rank."""
    made = (Term(c, factors(shape, rank, seed + 1000 * i, dtype)) for i, (c, rank) in enumerate(terms))
    return Delta(shape, tuple(made))


def dense(value: Delta) -> Matrix:
    """``sum c * up @ down`` term by term, ``[O, I*k]``."""
    loaded = [(t.coefficient, t.structure.load()) for t in value.terms]
    return sum_of((c, to_numpy(f.up) @ to_numpy(f.down)) for c, f in loaded)


def sum_of(terms: Iterable[tuple[float, Matrix]]) -> Matrix:
    first, *others = (weight * matrix for weight, matrix in terms)
    for other in others:
        first = first + other
    return first


def adapter(
    rank: int = 4,
    s: float = 1.0,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    shapes: Mapping[ModuleId, tuple[int, ...]] = SHAPES,
    family: str | None = "sd1",
    metadata: Mapping[str, str] | None = None,
    extras: Mapping[str, torch.Tensor] | None = None,
) -> Adapter:
    """A LoRA of one rank and one alpha/rank on every module of ``shapes``."""
    modules = {
        module: delta(shape, (s, rank), seed=seed + 17 * index, dtype=dtype)
        for index, (module, shape) in enumerate(shapes.items())
    }
    return adapter_of(modules, family=family, dtype=NAMES[dtype], metadata=metadata, extras=extras)


def adapter_of(
    modules: Mapping[ModuleId, Delta],
    *,
    family: str | None = "sd1",
    dtype: str = "F32",
    metadata: Mapping[str, str] | None = None,
    extras: Mapping[str, torch.Tensor] | None = None,
    transposed: frozenset[ModuleId] = frozenset(),
) -> Adapter:
    specs = {
        module: ModuleSpec(value.shape, value.rank, Spelling(stem(module), module in transposed))
        for module, value in modules.items()
    }
    held = extras or {}
    extra_specs = {name: TensorSpec(NAMES[t.dtype], tuple(t.shape)) for name, t in held.items()}
    return Adapter(AdapterSpec(family, specs, dtype, metadata or {}, extra_specs), modules, held)


@dataclass(frozen=True)
class SavedModule:
    """One saved module's tensors, and how many of their values became zero."""

    up: torch.Tensor
    down: torch.Tensor
    alpha: float
    underflowed: int


def saved_module(value: Delta, dtype: str, *, transposed: bool = False) -> SavedModule:
    """A delta as the only module of a saved adapter."""
    held = adapter_of({LINEAR: value}, transposed=frozenset({LINEAR} if transposed else ()))
    made = {tensor.name.removeprefix(stem(LINEAR)): tensor.make() for tensor in saved_tensors(held, dtype)}
    up, down, alpha = (made[suffix] for suffix in (".lora_up.weight", ".lora_down.weight", ".alpha"))
    return SavedModule(up.tensor, down.tensor, float(alpha.tensor), up.underflowed + down.underflowed)


def stem(module: ModuleId) -> str:
    rows = "" if module.rows is None else f"_{module.rows[0]}_{module.rows[1]}"
    return f"lora_{module.component}_" + module.key.removesuffix(".weight").replace(".", "_") + rows


def loaded(tensors: Mapping[str, torch.Tensor]) -> dict[str, Matrix]:
    """The deltas of a kohya file by stem, as a loader reads them: alpha / rank * up @ down."""
    deltas: dict[str, Matrix] = {}
    for name, up in tensors.items():
        if not name.endswith(".lora_up.weight"):
            continue
        of = name.removesuffix(".lora_up.weight")
        down = to_numpy(tensors[f"{of}.lora_down.weight"])
        rank = down.shape[0]
        alpha = tensors.get(f"{of}.alpha")
        scale = 1.0 if alpha is None else float(alpha) / rank
        deltas[of] = scale * to_numpy(up).reshape(-1, rank) @ down.reshape(rank, -1)
    return deltas


def error(result: Matrix, terms: Iterable[tuple[float, Matrix]]) -> float:
    """The measure of the design: relative to the norms of what went in."""
    held = list(terms)
    scale = sum(abs(weight) * np.linalg.norm(matrix) for weight, matrix in held)
    return float(np.linalg.norm(result - sum_of(held)) / scale)


class Memory:
    """A file of tensors in memory; it counts how often each was read."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.held = dict(tensors)
        self.reads: list[tuple[str, int, int | None]] = []
        self.metadata: Mapping[str, str] = {}

    @property
    def tensors(self) -> dict[str, TensorSpec]:
        names = {**NAMES, torch.int64: "I64", torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"}
        return {key: TensorSpec(names[t.dtype], tuple(t.shape)) for key, t in self.held.items()}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytearray:
        self.reads.append((name, start, stop))
        tensor = self.held[name]
        part = tensor if tensor.ndim == 0 else tensor[start:stop]
        return bytearray(part.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def checkpoint_spec(source: Memory, family: str | None = "sd1") -> CheckpointSpec:
    """Every tensor under its own name as reference key."""
    return CheckpointSpec(family, source.tensors, {key: (Place(key),) for key in source.tensors})


class Away:
    """Keeps factors elsewhere, as a build short of memory does; it counts them."""

    def __init__(self) -> None:
        self.kept: list[LowRank] = []

    def __call__(self, factors: LowRank) -> Lazy:
        number = len(self.kept)
        self.kept.append(LowRank(factors.up.clone(), factors.down.clone()))
        return Lazy(factors.shape, factors.rank, lambda: self.kept[number])
