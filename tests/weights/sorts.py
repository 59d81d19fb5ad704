"""Structures that are not two factors, each beside the formula of its format, written out in numpy.

The formulas are LyCORIS' einsums over whole tensors, kernels and all; nothing here uses the
algebra under test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.products import Hadamard, Kronecker, Tucker
from lorapipe.weights.structures.structure import Dense, Loaded, LowRank
from tests.weights.samples import Matrix, to_numpy

__all__ = ["SORTS", "Sample", "full", "loha", "loha_core", "lokr", "numbers", "plain", "summed", "tucker"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """A structure, and the matrix ``[O, I*k]`` that it is."""

    structure: Loaded
    matrix: Matrix

    def delta(self, coefficient: float = 1.0, kernel: tuple[int, ...] = ()) -> Delta:
        out, columns = self.matrix.shape
        shape = (out, columns // int(np.prod(kernel)), *kernel)
        return Delta(shape, (Term(coefficient, self.structure),))


def numbers(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def flat(array: Array) -> Matrix:
    return array.reshape(array.shape[0], -1)


def plain(out: int, columns: int, rank: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> Sample:
    up, down = numbers((out, rank), seed, dtype), numbers((rank, columns), seed + 1, dtype)
    return Sample(LowRank(up, down), to_numpy(up) @ to_numpy(down))


def tucker(
    out: int,
    into: int,
    kernel: tuple[int, ...] = (),
    rank: int = 3,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Sample:
    up, down = numbers((out, rank), seed, dtype), numbers((rank, into), seed + 1, dtype)
    mid = numbers((rank, rank, *kernel), seed + 2, dtype)
    matrix = np.einsum("mn...,om,ni->oi...", to_numpy(mid), to_numpy(up), to_numpy(down))
    return Sample(Tucker(up, mid, down), flat(matrix))


def loha(out: int, columns: int, rank: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> Sample:
    one, two = (plain(out, columns, rank, seed + i, dtype) for i in (0, 10))
    assert isinstance(one.structure, LowRank)
    assert isinstance(two.structure, LowRank)
    return Sample(Hadamard(one.structure, two.structure), one.matrix * two.matrix)


def loha_core(
    out: int,
    into: int,
    kernel: tuple[int, ...] = (),
    rank: int = 2,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Sample:
    one, two = (tucker(out, into, kernel, rank, seed + i, dtype) for i in (0, 10))
    assert isinstance(one.structure, Tucker)
    assert isinstance(two.structure, Tucker)
    return Sample(Hadamard(one.structure, two.structure), one.matrix * two.matrix)


def lokr(
    small: tuple[int, int],
    large: tuple[int, ...],
    ranks: tuple[int | None, int | None] = (None, None),
    *,
    core: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Sample:
    """``kron`` of ``[a, c]`` and ``[b, d, *k]``; a rank makes a half factors, ``core`` a Tucker product."""
    (a, c), (b, d, *kernel) = small, large
    one = full(a, c, seed, dtype) if ranks[0] is None else plain(a, c, ranks[0], seed, dtype)
    columns = d * int(np.prod(kernel))
    if core:
        assert ranks[1] is not None
        two = tucker(b, d, tuple(kernel), ranks[1], seed + 5, dtype)
    elif ranks[1] is None:
        two = full(b, columns, seed + 5, dtype)
    else:
        two = plain(b, columns, ranks[1], seed + 5, dtype)
    assert isinstance(one.structure, Dense | LowRank)
    assert isinstance(two.structure, Dense | LowRank | Tucker)
    first = one.matrix.reshape(a, c, *(1 for _ in kernel))
    matrix = np.kron(first, two.matrix.reshape(large))
    return Sample(Kronecker(one.structure, two.structure), flat(matrix))


def full(out: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Sample:
    matrix = numbers((out, columns), seed, dtype)
    return Sample(Dense(matrix), to_numpy(matrix))


SORTS: dict[str, Callable[[int, torch.dtype], Sample]] = {
    "Tucker": lambda seed, dtype: tucker(12, 10, (), 3, seed, dtype),
    "Tucker 3x3": lambda seed, dtype: tucker(12, 5, (3, 3), 4, seed, dtype),
    "Tucker of more than full rank": lambda seed, dtype: tucker(4, 3, (1, 1), 9, seed, dtype),
    "LoHa": lambda seed, dtype: loha(12, 10, 2, seed, dtype),
    "LoHa of more than full rank": lambda seed, dtype: loha(8, 45, 4, seed, dtype),
    "LoHa with cores": lambda seed, dtype: loha_core(12, 10, (), 2, seed, dtype),
    "LoHa with cores 3x3": lambda seed, dtype: loha_core(12, 5, (3, 3), 3, seed, dtype),
    "LoKr": lambda seed, dtype: lokr((2, 3), (6, 4), seed=seed, dtype=dtype),
    "LoKr, small factors": lambda seed, dtype: lokr((4, 3), (3, 4), (2, None), seed=seed, dtype=dtype),
    "LoKr, large factors": lambda seed, dtype: lokr((2, 5), (6, 4), (None, 2), seed=seed, dtype=dtype),
    "LoKr, all factors": lambda seed, dtype: lokr((4, 5), (5, 4), (2, 3), seed=seed, dtype=dtype),
    "LoKr of too many ranks": lambda seed, dtype: lokr((2, 3), (5, 4), (6, 7), seed=seed, dtype=dtype),
    "LoKr 3x3": lambda seed, dtype: lokr((2, 3), (6, 2, 3, 3), seed=seed, dtype=dtype),
    "LoKr 3x3, large factors": lambda seed, dtype: lokr(
        (2, 3), (6, 2, 3, 3), (None, 2), seed=seed, dtype=dtype
    ),
    "LoKr 3x3 with a core": lambda seed, dtype: lokr(
        (2, 3), (6, 4, 3, 3), (1, 3), core=True, seed=seed, dtype=dtype
    ),
    "full difference": lambda seed, dtype: full(12, 10, seed, dtype),
    "bias": lambda seed, dtype: full(12, 1, seed, dtype),
}
"""Every sort, of small odd sizes, with numbers of a seed in a dtype."""


def summed(terms: list[tuple[float, Sample]]) -> tuple[Delta, Matrix]:
    """A delta of several structures, and its matrix."""
    shape = terms[0][1].matrix.shape
    delta = Delta((shape[0], shape[1]), tuple(Term(c, sample.structure) for c, sample in terms))
    matrix = terms[0][0] * terms[0][1].matrix
    for coefficient, sample in terms[1:]:
        matrix = matrix + coefficient * sample.matrix
    return delta, matrix
