"""The values of a file's modules: an adapter's deltas, split, joined and permuted exactly.

Splitting shares ``down`` and slices ``up``. Joining ``up_j @ down_j`` of several parts gives
``[up_1; up_2; ...] @ down`` where all ``down_j`` are the same numbers, as they are when the
parts were one module once, and block-diagonal factors of the added ranks else. Where parts
have several terms, this is done term by term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.inference.filed import FileModule, Part
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.structure import LowRank, Structure

__all__ = ["refiled", "same_bits"]


def refiled(module: FileModule, adapter: Adapter) -> Delta:
    """The delta of a file's module of plain factors, in the file's own rows and orientation.

    Numbers are read only where parts are joined, to compare them. The rank is
    ``module.rank``, or less where that is a bound.
    """
    (first, *others) = module.parts
    if first.module is not None and not others:
        delta = _rows(adapter.delta(first.module), first)
    elif len(module.sources) == 1 and all(part.module is not None for part in module.parts):
        delta = _permuted(adapter.delta(module.sources[0]), module.parts)
    else:
        delta = _joined(module.parts, adapter)
    return delta.transposed() if module.transposed else delta


def _rows(delta: Delta, part: Part) -> Delta:
    return delta if part.height == delta.shape[0] else delta.rows(part.start, part.stop)


def _permuted(delta: Delta, parts: Sequence[Part]) -> Delta:
    """Rows of one delta in another order: the factors' ranks stay."""
    order = torch.cat([torch.arange(part.start, part.stop) for part in parts])

    def turned(structure: Structure) -> Lazy:
        def read() -> LowRank:
            factors = _factors(structure)
            return LowRank(factors.up[order.to(factors.up.device)], factors.down)

        return Lazy((len(order), structure.shape[1]), structure.rank, read)

    terms = tuple(Term(term.coefficient, turned(term.structure)) for term in delta.terms)
    return Delta((len(order), *delta.shape[1:]), terms)


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """A term of one of the parts, and the first of the rows that it fills."""

    coefficient: float
    start: int
    structure: Structure


def _joined(parts: Sequence[Part], adapter: Adapter) -> Delta:
    """The parts' deltas one below the other, zeros where there is none."""
    height, deltas = 0, []
    for part in parts:
        if part.module is not None:
            deltas.append((height, _rows(adapter.delta(part.module), part)))
        height += part.height
    blocks = [
        _Block(delta.terms[number].coefficient, start, delta.terms[number].structure)
        for number in range(max(len(delta.terms) for _, delta in deltas))
        for start, delta in deltas
        if number < len(delta.terms)
    ]
    shape = (height, *deltas[0][1].shape[1:])
    return Delta(shape, tuple(Term(g[0].coefficient, _stacked(height, g)) for g in _grouped(blocks)))


def _grouped(blocks: Sequence[_Block]) -> list[list[_Block]]:
    """Blocks of equal coefficients and bit-equal ``down``, on rows of their own, together."""
    groups: list[tuple[list[_Block], LowRank]] = []
    for block in blocks:
        factors = _factors(block.structure)
        for members, known in groups:
            apart = all(member.start != block.start for member in members)
            if apart and members[0].coefficient == block.coefficient and same_bits(known.down, factors.down):
                members.append(block)
                break
        else:
            groups.append(([block], factors))
    return [members for members, _ in groups]


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are the same numbers of the same dtype, signs of zeros included."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    # As bytes: torch does not compare fp8.
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def _stacked(height: int, blocks: Sequence[_Block]) -> Lazy:
    """``down`` of the first of the blocks, and their ups on their rows of ``up: [height, r]``."""
    first = blocks[0].structure

    def read() -> LowRank:
        loaded = [(block.start, _factors(block.structure)) for block in blocks]
        dtypes = {factors.up.dtype for _, factors in loaded}
        wide = torch.float64 if torch.float64 in dtypes else torch.float32
        down = loaded[0][1].down
        up = torch.zeros(
            height, down.shape[0], dtype=dtypes.pop() if len(dtypes) == 1 else wide, device=down.device
        )
        for start, factors in loaded:
            up[start : start + factors.up.shape[0]] = factors.up.to(up.dtype)
        return LowRank(up, down)

    return Lazy((height, first.shape[1]), first.rank, read)


def _factors(structure: Structure) -> LowRank:
    loaded = structure.load()
    assert isinstance(loaded, LowRank), "only plain factors are joined"
    return loaded
