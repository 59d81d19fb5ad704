"""Products other than that of two factors: through a core, by elements, Kronecker's.

They are the formats Tucker (LoCon with ``lora_mid``), LoHa and LoKr. Each gives any of its
rows without the others, and its exact factors, of which the matrix itself beside an
identity are the cheapest where the rank is full.
*Source*: KohakuBlueleaf/LyCORIS f49d30d, ``lycoris/functional``; Hyeon-Woo et al., "FedPara",
ICLR 2022, proposition 2, for the rank of a product by elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from lorapipe.weights.structures.structure import Dense, LowRank, Written, negated, times

__all__ = ["Hadamard", "Kronecker", "Tucker"]


@dataclass(frozen=True, slots=True, eq=False)
class Tucker:
    """``W[o, (i, k)] = sum_{m,n} up[o, m] mid[m, n, k] down[n, i]``: three convolutions in a row.

    ``up: [O, r]``, ``mid: [r, s, *k]``, ``down: [s, I]``, any floating dtypes.
    """

    up: Tensor
    mid: Tensor
    down: Tensor

    def __post_init__(self) -> None:
        flat = self.up.ndim == self.down.ndim == 2 and self.mid.ndim >= 2
        if not flat or (self.up.shape[1], self.down.shape[0]) != tuple(self.mid.shape[:2]):
            shapes = ", ".join(str(list(t.shape)) for t in (self.up, self.mid, self.down))
            raise ValueError(f"a core between factors cannot be {shapes}")

    @property
    def rank(self) -> int:
        return min(self.up.shape[1], *self.shape)

    @property
    def shape(self) -> tuple[int, int]:
        return self.up.shape[0], self.down.shape[1] * prod(self.mid.shape[2:])

    @property
    def plain(self) -> bool:
        return False

    def load(self) -> Tucker:
        return self

    def rows(self, start: int, stop: int) -> Tucker:
        return Tucker(self.up[start:stop], self.mid, self.down)

    def transposed(self) -> Tucker | LowRank:
        """The same sort without a kernel, whose axes would stand before the core; with one, two factors."""
        if prod(self.mid.shape[2:]) == 1:
            return Tucker(self.down.T, self.mid.transpose(0, 1), self.up.T)
        return self.factors(torch.float64).transposed()

    def to(self, device: str | torch.device) -> Tucker:
        return Tucker(self.up.to(device), self.mid.to(device), self.down.to(device))

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self._product(dtype).dense(dtype)

    def factors(self, dtype: torch.dtype) -> LowRank:
        """``up`` beside ``mid`` times ``down``: ``[r, I*k]``."""
        return _at_most_full(self._product(dtype))

    def written(self, coefficient: float) -> Written:
        tensors = {
            ".lora_down.weight": self.down,
            ".lora_mid.weight": self.mid,
            ".lora_up.weight": _signed(self.up, coefficient),
        }
        return Written(tensors, abs(coefficient) * self.down.shape[0])

    def _product(self, dtype: torch.dtype) -> LowRank:
        core = self.mid.to(dtype).reshape(*self.mid.shape[:2], -1)
        into = torch.einsum("mnk,ni->mik", core, self.down.to(dtype))
        return LowRank(self.up.to(dtype), into.flatten(1))


@dataclass(frozen=True, slots=True, eq=False)
class Hadamard:
    """``one * two``, element by element, of two products of one shape: LoHa."""

    one: LowRank | Tucker
    two: LowRank | Tucker

    def __post_init__(self) -> None:
        if self.one.shape != self.two.shape:
            raise ValueError(f"matrices {list(self.one.shape)} and {list(self.two.shape)} differ in shape")

    @property
    def rank(self) -> int:
        return min(self.one.rank * self.two.rank, *self.shape)

    @property
    def shape(self) -> tuple[int, int]:
        return self.one.shape

    @property
    def plain(self) -> bool:
        return False

    def load(self) -> Hadamard:
        return self

    def rows(self, start: int, stop: int) -> Hadamard:
        return Hadamard(self.one.rows(start, stop), self.two.rows(start, stop))

    def transposed(self) -> Hadamard:
        return Hadamard(self.one.transposed(), self.two.transposed())

    def to(self, device: str | torch.device) -> Hadamard:
        return Hadamard(self.one.to(device), self.two.to(device))

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self.one.dense(dtype).mul_(self.two.dense(dtype))

    def factors(self, dtype: torch.dtype) -> LowRank:
        """The ups' products by rows, the downs' by columns (Khatri and Rao's): rank ``r1 * r2``."""
        if self.one.rank * self.two.rank > self.rank:
            return Dense(self.dense(dtype)).factors(dtype)
        one, two = self.one.factors(dtype), self.two.factors(dtype)
        up = (one.up[:, :, None] * two.up[:, None, :]).flatten(1)
        down = (one.down[:, None, :] * two.down[None, :, :]).flatten(0, 1)
        return LowRank(up, down)

    def written(self, coefficient: float) -> Written:
        """Without cores ``w*_a: [O, r]``; beside a core it is the transpose."""
        tensors: dict[str, Tensor] = {}
        cores: dict[str, Tensor] = {}
        for number, half, sign in ((1, self.one, coefficient), (2, self.two, 1.0)):
            up = _signed(half.up, sign)
            tensors[f".hada_w{number}_a"] = up if isinstance(half, LowRank) else up.T
            tensors[f".hada_w{number}_b"] = half.down
            if isinstance(half, Tucker):
                cores[f".hada_t{number}"] = half.mid
        return Written(tensors | cores, abs(coefficient) * self.one.down.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Kronecker:
    """``W[i1*b + i2, j1*d + j2] = one[i1, j1] * two[i2, j2]``, or the rows ``span`` of it: LoKr.

    ``one: [a, c]``, ``two: [b, d]``, where ``d`` holds a kernel, if there is one. ``alpha`` is
    what a file of two full halves says: it counts for nothing, and LyCORIS loads no file without.
    """

    one: Dense | LowRank
    two: Dense | LowRank | Tucker
    span: tuple[int, int] | None = None
    alpha: float | None = None

    @property
    def rank(self) -> int:
        """The ranks' product: what some rows could have less of is not told by their number."""
        return min(_least(self.one) * _least(self.two), *self.shape)

    @property
    def shape(self) -> tuple[int, int]:
        start, stop = self._span
        return stop - start, self.one.shape[1] * self.two.shape[1]

    @property
    def plain(self) -> bool:
        return False

    def load(self) -> Kronecker:
        return self

    def rows(self, start: int, stop: int) -> Kronecker:
        first, last = self._span
        return Kronecker(self.one, self.two, (first + start, min(first + stop, last)))

    def transposed(self) -> Kronecker | LowRank:
        """The transposes' product; of some rows, which are columns then, two factors."""
        if self.span is None:
            return Kronecker(self.one.transposed(), self.two.transposed(), alpha=self.alpha)
        return self.factors(torch.float64).transposed()

    def to(self, device: str | torch.device) -> Kronecker:
        return Kronecker(self.one.to(device), self.two.to(device), self.span, self.alpha)

    def dense(self, dtype: torch.dtype) -> Tensor:
        start, stop = self._span
        height = self.two.shape[0]
        first, last = start // height, -(-stop // height)
        one, above = self.one.rows(first, last), first * height
        # Rows of one row of ``one`` alone take the same rows of ``two`` and no others.
        low, high = (start - above, stop - above) if last - first == 1 else (0, height)
        two = self.two.rows(low, high)
        return _rows(one.dense(dtype), two.dense(dtype), start - above - low, stop - start)

    def factors(self, dtype: torch.dtype) -> LowRank:
        """The Kronecker product of the ups, as far as its rows are wanted, and that of the downs."""
        one, two = _factors(self.one, dtype), _factors(self.two, dtype)
        if one.rank * two.rank > self.rank:
            return Dense(self.dense(dtype)).factors(dtype)
        start, stop = self._span
        up = _rows(one.up, two.up, start, stop - start)
        return LowRank(up, _rows(one.down, two.down, 0, one.rank * two.rank))

    def written(self, coefficient: float) -> Written:
        """The coefficient is in alpha; of two full halves, where alpha counts for nothing, in ``w1``."""
        if self.span is not None:
            raise ValueError("some rows of a Kronecker product are none")
        pairs = [half for half in (self.one, self.two) if not isinstance(half, Dense)]
        alpha = abs(coefficient) * pairs[-1].down.shape[0] if pairs else self.alpha
        tensors: dict[str, Tensor] = {}
        if isinstance(self.one, LowRank):
            tensors |= {".lokr_w1_a": _signed(self.one.up, coefficient), ".lokr_w1_b": self.one.down}
        elif pairs:
            tensors[".lokr_w1"] = _signed(self.one.matrix, coefficient)
        else:
            tensors[".lokr_w1"] = times(self.one.matrix, coefficient)
        return Written(tensors | _second(self.two), alpha)

    @property
    def _span(self) -> tuple[int, int]:
        return self.span or (0, self.one.shape[0] * self.two.shape[0])


def _second(two: Dense | LowRank | Tucker) -> dict[str, Tensor]:
    """LoKr's second half as its tensors; beside a core ``w2_a`` is the transpose of ``up``."""
    if isinstance(two, Dense):
        return {".lokr_w2": two.matrix}
    if isinstance(two, LowRank):
        return {".lokr_w2_a": two.up, ".lokr_w2_b": two.down}
    return {".lokr_w2_a": two.up.T, ".lokr_w2_b": two.down, ".lokr_t2": two.mid}


def _rows(one: Tensor, two: Tensor, start: int, count: int) -> Tensor:
    """``count`` rows from ``start`` on of the product of ``[a, c]`` and ``[b, d]``: ``[count, c*d]``."""
    row = torch.arange(start, start + count, device=one.device)
    height = two.shape[0]
    upper, lower = one[row.div(height, rounding_mode="floor")], two[row % height]
    return (upper[:, :, None] * lower[:, None, :]).flatten(1)


def _least(structure: Dense | LowRank | Tucker) -> int:
    """The rank, which that of two factors may be above, if it is above the full one."""
    return min(structure.rank, *structure.shape)


def _factors(structure: Dense | LowRank | Tucker, dtype: torch.dtype) -> LowRank:
    return _at_most_full(structure.factors(dtype))


def _at_most_full(factors: LowRank) -> LowRank:
    """The product beside an identity where the factors' rank is above the full one."""
    if factors.rank <= min(factors.shape):
        return factors
    return Dense(factors.dense(factors.up.dtype)).factors(factors.up.dtype)


def _signed(tensor: Tensor, coefficient: float) -> Tensor:
    return tensor if coefficient > 0 else negated(tensor)
