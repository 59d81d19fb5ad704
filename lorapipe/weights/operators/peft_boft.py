"""BOFT as PEFT has it: input columns are turned in stages, and rows scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.operators.oft import cayley
from lorapipe.weights.operators.operator import blended, kept
from lorapipe.weights.strength import undefined

__all__ = ["BLOCKS", "SCALE", "PeftBOFT"]

BLOCKS, SCALE = ".boft_R", ".boft_s"


@dataclass(frozen=True, slots=True, eq=False)
class PeftBOFT:
    """``W' = s * (W (B_m ... B_1)^T)``, rotations over the ``I*k`` columns, ``s: [O]`` for each row.

    ``blocks: [m, n, b, b]``, ``R = (I - Q)(I + Q)^-1`` with ``Q = (B - B^T) / 2``. Stage i from
    0 on deals the first and the second ``2^i`` halves of blocks in each group of ``2^i * b``
    columns out in turn, turns blocks of b columns, and gathers them again.

    *Source*: Liu et al., "Parameter-Efficient Orthogonal Finetuning via Butterfly
    Factorization", ICLR 2024; huggingface/peft 0.21.2 ``tuners/boft/layer.py``.
    """

    blocks: Tensor
    scale: Tensor

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:
        """The weight ``[O, I, *k]`` after it; raises :class:`BuildError` ``blocks-misfit``."""
        if rule != "exact":
            raise undefined(rule, "PEFT BOFT")
        _, count, size, _ = self.blocks.shape
        columns = prod(weight.shape[1:])
        if count * size != columns:
            raise BuildError("blocks-misfit", f"{count} blocks of {size} do not make {columns} columns")
        blocks = self.blocks.to(weight.dtype)
        skew = (blocks - blocks.mT) / 2
        rows = weight.reshape(len(weight), columns)
        for stage, matrices in enumerate(cayley(-skew)):
            order = _order(columns, size, stage).to(weight.device)
            dealt = torch.empty_like(rows)
            dealt[:, order] = rows
            parts = dealt.reshape(len(rows), count, size).transpose(0, 1)  # [n, O, b]
            rows = (parts @ matrices.mT).transpose(0, 1).reshape(rows.shape)[:, order]
        rows = rows * self.scale.to(rows.dtype).reshape(-1, 1)
        return blended(weight, rows.reshape(weight.shape), strength)

    def rows(self, start: int, stop: int) -> PeftBOFT:
        return replace(self, scale=self.scale.reshape(-1)[start:stop])

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """Both tensors; strength 1 only."""
        kept("PEFT BOFT", strength)
        return {BLOCKS: self.blocks, SCALE: self.scale}

    def to(self, device: str | torch.device) -> PeftBOFT:
        return PeftBOFT(self.blocks.to(device), self.scale.to(device))


def _order(columns: int, size: int, stage: int) -> Tensor:
    """Where each column stands while a stage turns: half blocks, the even ones of a group before the odd.

    >>> _order(8, 4, 1).tolist()
    [0, 1, 4, 5, 2, 3, 6, 7]
    """
    places = torch.arange(columns)
    if stage == 0:
        return places
    return places.reshape(-1, 2**stage, 2, size // 2).transpose(1, 2).reshape(-1)
