"""OFT as PEFT and OneTrainer have it: blocks of input columns are turned.

It is neither LyCORIS' OFT on the other side nor, with the same numbers, the same rotation:
PEFT's exact formula is ``(I - S)(I + S)^-1``, its approximation near ``(I + S)(I - S)^-1``,
the opposite turn. Which one a file means only its config says; the approximation is PEFT's
default, and the only one that OneTrainer has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod, sqrt

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.operators.oft import cayley
from lorapipe.weights.operators.operator import blended, kept
from lorapipe.weights.strength import undefined

__all__ = ["ROLE", "SCALED", "PeftOFT", "PeftSettings", "neumann", "skew_symmetric"]

ROLE, SCALED = ".oft_R.weight", ".oft_R.scaled_oft"


@dataclass(frozen=True, slots=True)
class PeftSettings:
    """What PEFT's config says of an OFT, with its defaults.

    ``terms`` of the series, or 0 for the exact formula. ``limit`` is the norm that ``coft``
    projects each block to, to be divided by the root of the number of blocks.
    ``kernels_turn_back``: OneTrainer turns the columns of a kernel by R, those of a matrix
    by its transpose.
    """

    terms: int = 5
    limit: float | None = None
    kernels_turn_back: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class PeftOFT:
    """``W' = W M^T`` with ``M = blockdiag(R_1, ..., R_n)`` over the ``I*k`` columns.

    ``triangles: [n, b(b-1)/2]`` are the upper triangles of S, row by row; a single one
    serves all blocks (``block_share``). ``scaled`` is a tensor that OneTrainer adds where
    the numbers are to be divided by ``2 sqrt(b - 1)``.

    *Source*: huggingface/peft 0.21.2 ``tuners/oft/layer.py``; Nerogar/OneTrainer 23df383
    ``modules/module/LoRAModule.py`` and ``oft_utils.py``.
    """

    triangles: Tensor
    settings: PeftSettings = PeftSettings()
    scaled: Tensor | None = None

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:
        """The weight ``[O, I, *k]`` after it; raises :class:`BuildError` ``blocks-misfit``."""
        if rule != "exact":
            raise undefined(rule, "PEFT OFT")
        columns = prod(weight.shape[1:])
        matrices = self._matrices(weight.dtype)
        shared, size, _ = matrices.shape
        if columns % size or (shared != 1 and shared * size != columns):
            raise BuildError("blocks-misfit", f"{shared} blocks of {size} do not make {columns} columns")
        if self.settings.kernels_turn_back and weight.ndim > 2:
            matrices = matrices.mT
        blocks = weight.reshape(weight.shape[0], columns // size, size).transpose(0, 1)  # [n, O, b]
        turned = (blocks @ matrices.mT).transpose(0, 1)
        return blended(weight, turned.reshape(weight.shape), strength)

    def _matrices(self, dtype: torch.dtype) -> Tensor:
        """R of each block: ``[n, b, b]``."""
        skew = skew_symmetric(self.triangles.to(dtype))
        if self.scaled is not None:
            skew = skew / (2 * sqrt(skew.shape[-1] - 1))
        if self.settings.limit is not None:
            limit = self.settings.limit / sqrt(len(skew))
            norms = torch.linalg.vector_norm(skew, dim=(1, 2), keepdim=True)
            skew = torch.where(norms > limit, skew * (limit / norms), skew)
        return neumann(skew, self.settings.terms) if self.settings.terms else cayley(-skew)

    def rows(self, start: int, stop: int) -> PeftOFT:  # noqa: ARG002  # rows are all treated alike
        return self

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """The triangles, and OneTrainer's mark; strength 1 only, and PEFT's defaults, as a file is read.

        Raises :class:`BuildError` ``settings-not-kept`` for others, which only PEFT's config says.
        """
        kept("PEFT OFT", strength)
        if replace(self.settings, kernels_turn_back=False) != PeftSettings():
            raise BuildError(
                "settings-not-kept",
                "only PEFT's config says how this OFT turns, a file of its blocks would be another one",
                hint="merge it into its checkpoint and extract a LoRA",
            )
        return {ROLE: self.triangles, **({} if self.scaled is None else {SCALED: self.scaled})}

    def to(self, device: str | torch.device) -> PeftOFT:
        return replace(self, triangles=self.triangles.to(device))


def skew_symmetric(triangles: Tensor) -> Tensor:
    """``[n, b, b]`` from upper triangles without the diagonal, ``[n, b(b-1)/2]``, row by row.

    >>> skew_symmetric(torch.tensor([[1.0, 2.0, 3.0]]))[0].tolist()
    [[0.0, 1.0, 2.0], [-1.0, 0.0, 3.0], [-2.0, -3.0, 0.0]]
    """
    count, entries = triangles.shape
    size = (1 + round(sqrt(1 + 8 * entries))) // 2
    matrix = triangles.new_zeros(count, size, size)
    row, column = torch.triu_indices(size, size, 1, device=triangles.device)
    matrix[:, row, column] = triangles
    return matrix - matrix.mT


def neumann(skew: Tensor, terms: int) -> Tensor:
    """``I + 2S + 2S^2 + ... + S^(terms - 1)``, near ``(I + S)(I - S)^-1`` for small S.

    The last power is counted once. As in PEFT, three terms are the same as four.
    """
    one = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device).expand_as(skew)
    total = one.clone()
    if terms == 2:
        return total + 2 * skew
    if terms > 2:
        power = skew
        total = total + 2 * power
        for _ in range(max(terms, 4) - 3):
            power = power @ skew
            total = total + 2 * power
        total = total + power @ skew
    return total
