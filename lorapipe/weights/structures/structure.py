"""What a delta is made of: matrices that stay factored until they are used.

The port is :class:`Structure`: what is known without reading, and ``load``. A loaded one
can be formed (``dense``), or written exactly as two factors (``factors``). Plain factors,
the LoRA proper, are here, and a matrix that is nothing but its numbers; products of other
sorts are in :mod:`~lorapipe.weights.structures.products`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Dense", "Loaded", "LowRank", "Structure", "Written", "negated", "times"]


class Structure(Protocol):
    """A matrix ``[O, I*k]`` of at most ``rank``, wherever its numbers are.

    ``plain`` says that it is two factors, which stack with others; the rank of any other
    structure is at most the full one of its shape.
    """

    @property
    def rank(self) -> int: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def plain(self) -> bool: ...

    def rows(self, start: int, stop: int) -> Structure:
        """Rows ``[start, stop)`` of the matrix."""

    def transposed(self) -> Structure:
        """The matrix's transpose."""

    def load(self) -> Loaded:
        """Its numbers; read, where they are in a file."""


class Loaded(Structure, Protocol):
    """A structure in memory."""

    def rows(self, start: int, stop: int) -> Loaded: ...

    def transposed(self) -> Loaded: ...

    def to(self, device: str | torch.device) -> Loaded:
        """The same on ``device``."""

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix ``[O, I*k]``, computed in ``dtype``."""

    def factors(self, dtype: torch.dtype) -> LowRank:
        """Two factors of rank ``rank`` whose product is the matrix, exact but for ``dtype``."""

    def written(self, coefficient: float) -> Written:
        """``coefficient`` times it as a file of its own format has it."""


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A module's tensors by role (what follows its stem), and its alpha if the format has one.

    Kernels may be flattened: who saves them knows the shapes. Values are rounded only where
    the coefficient has to be multiplied into them; then they are float64.
    """

    tensors: Mapping[str, Tensor]
    alpha: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """Two factors as a file holds them, both 2-D and of any floating dtype.

    ``up: [O, r]`` and ``down: [r, I*k]``; the product ``up @ down`` is ``[O, I*k]``.
    """

    up: Tensor
    down: Tensor

    def __post_init__(self) -> None:
        if self.up.ndim != 2 or self.down.ndim != 2 or self.up.shape[1] != self.down.shape[0]:
            raise ValueError(f"factors {list(self.up.shape)} and {list(self.down.shape)} have no product")

    @property
    def rank(self) -> int:
        return self.up.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        return self.up.shape[0], self.down.shape[1]

    @property
    def plain(self) -> bool:
        return True

    def load(self) -> LowRank:
        return self

    def rows(self, start: int, stop: int) -> LowRank:
        """Rows ``[start, stop)`` of the product: ``down`` is shared, ``up`` is a view."""
        return LowRank(self.up[start:stop], self.down)

    def transposed(self) -> LowRank:
        """The factors of the product's transpose, as views."""
        return LowRank(self.down.T, self.up.T)

    def to(self, device: str | torch.device) -> LowRank:
        return LowRank(self.up.to(device), self.down.to(device))

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self.up.to(dtype) @ self.down.to(dtype)

    def factors(self, dtype: torch.dtype) -> LowRank:
        return LowRank(self.up.to(dtype), self.down.to(dtype))

    def written(self, coefficient: float) -> Written:
        up = self.up if coefficient > 0 else negated(self.up)
        tensors = {".lora_up.weight": up, ".lora_down.weight": self.down}
        return Written(tensors, abs(coefficient) * self.rank)


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A matrix ``[O, I*k]`` as its numbers: a full difference, or that of a bias ``[O, 1]``."""

    matrix: Tensor

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2:
            raise ValueError(f"a tensor {list(self.matrix.shape)} is no matrix")

    @property
    def rank(self) -> int:
        return min(self.matrix.shape)

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def plain(self) -> bool:
        return False

    def load(self) -> Dense:
        return self

    def rows(self, start: int, stop: int) -> Dense:
        return Dense(self.matrix[start:stop])

    def transposed(self) -> Dense:
        return Dense(self.matrix.T)

    def to(self, device: str | torch.device) -> Dense:
        return Dense(self.matrix.to(device))

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self.matrix.to(dtype)

    def factors(self, dtype: torch.dtype) -> LowRank:
        """The matrix beside an identity on its shorter side."""
        matrix = self.matrix.to(dtype)
        one = torch.eye(self.rank, dtype=dtype, device=matrix.device)
        return LowRank(matrix, one) if matrix.shape[0] >= matrix.shape[1] else LowRank(one, matrix)

    def written(self, coefficient: float) -> Written:
        return Written({".diff": times(self.matrix, coefficient)})


def negated(tensor: Tensor) -> Tensor:
    """``-tensor``, exactly; torch has no negation of fp8."""
    return (-tensor.to(torch.float32)).to(tensor.dtype) if tensor.element_size() == 1 else -tensor


def times(tensor: Tensor, coefficient: float) -> Tensor:
    """``coefficient * tensor`` where a file has no other place for it: in float64, but for 1 and -1."""
    if abs(coefficient) == 1.0:
        return tensor if coefficient > 0 else negated(tensor)
    return tensor.to(torch.float64) * coefficient
