"""BOFT: rotations of blocks of rows in several stages, between which rows change places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorapipe.weights.operators.oft import BLOCKS, Rotations, rotated, towards
from lorapipe.weights.operators.operator import blended, kept

__all__ = ["BOFT"]


@dataclass(frozen=True, slots=True, eq=False)
class BOFT:
    """``W' = B_m ... B_1 W``, then times ``rescale: [O]`` row by row.

    ``rotations`` holds ``[m, n, b, b]``. Stage i from 0 on deals the rows of each group of
    ``2^i * b`` out to its two halves in turn, multiplies blocks of b rows with R (not with
    its transpose, as OFT does), and gathers them again. ``alpha`` limits the norm of all
    stages together: see :mod:`~.oft`.

    *Source*: Liu et al., "Parameter-Efficient Orthogonal Finetuning via Butterfly
    Factorization", ICLR 2024; lycoris-lora 4.1.3 ``functional/boft.py``; for ``comfy``
    ComfyUI 204e96f ``comfy/weight_adapter/boft.py``.
    """

    rotations: Rotations
    rescale: Tensor | None = None
    alpha: float | None = None

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:
        """The weight ``[O, I, *k]`` after it.

        ``lycoris``: each stage's rotations ``I + strength * (R - I)``, ``rescale`` in full.
        ``comfy``: alpha not multiplied, the same stages and ``rescale``, and then
        ``W + strength * (all that - W)``.
        """
        if rule == "lycoris":
            return self._staged(weight, strength)
        if rule == "comfy":
            return blended(weight, self._staged(weight, strength, by_height=False), strength)
        return blended(weight, self._staged(weight, 1.0), strength)

    def _staged(self, weight: Tensor, part: float, *, by_height: bool = True) -> Tensor:
        """All stages of ``I + part * (R - I)`` and ``rescale``, a new tensor."""
        scale = self.rotations.scale(self.alpha, by_height=by_height)
        rows = weight.reshape(weight.shape[0], -1)
        for stage, matrices in enumerate(towards(self.rotations.matrices(weight.dtype, scale), part)):
            half = 2**stage * matrices.shape[-1] // 2
            dealt = rows.reshape(-1, 2, half, rows.shape[1]).transpose(1, 2).reshape(rows.shape)
            turned = rotated(matrices, dealt)
            rows = turned.reshape(-1, half, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)
        if self.rescale is not None:
            rows = rows * self.rescale.to(rows.dtype).reshape(-1, 1)
        return rows.reshape(weight.shape)

    def rows(self, start: int, stop: int) -> BOFT:
        blocks = self.rotations.blocks
        stages, _, size, _ = blocks.shape
        group = 2 ** (stages - 1) * size
        if start % group or stop % group:
            raise ValueError(f"rows {start} to {stop} cut a group of {group}")
        rescale = None if self.rescale is None else self.rescale[start:stop]
        kept_blocks = blocks[:, start // size : stop // size]
        return replace(self, rotations=self.rotations.taken(kept_blocks), rescale=rescale)

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """Blocks, ``rescale`` and alpha; strength 1 and all rows only."""
        kept("BOFT", strength)
        rescale = {} if self.rescale is None else {".rescale": self.rescale}
        return {BLOCKS: self.rotations.whole(), **rescale, ".alpha": torch.tensor(self.alpha or 0.0)}

    def to(self, device: str | torch.device) -> BOFT:
        rescale = None if self.rescale is None else self.rescale.to(device)
        return replace(self, rotations=self.rotations.to(device), rescale=rescale)
