"""OFT: blocks of rows, each turned by a rotation of its own.

What alpha is here: a limit on the rotations' size, no factor. LyCORIS, kohya and A1111
multiply it with the rows that share a norm; ComfyUI does not (``rule: comfy``). **Alpha 0
or none means no limit**, as in LyCORIS, whose default it is, ComfyUI and A1111. sd-scripts
takes 0 as the limit, so that nothing turns: a module of its own sort (``oft_blocks.0``)
with alpha 0 is refused when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorapipe.weights.operators.operator import blended, kept
from lorapipe.weights.strength import undefined

__all__ = ["BLOCKS", "DIAGONAL", "OFT", "Rotations", "cayley", "rotated", "towards"]

BLOCKS, DIAGONAL = ".oft_blocks", ".oft_diag"
_LEAST = 1e-8
"""What LyCORIS adds to a norm before it compares."""


@dataclass(frozen=True, slots=True, eq=False)
class Rotations:
    """Rotations as a trainer keeps them: ``blocks: [..., b, b]``, of which only B - B^T counts.

    ``norm`` is the Frobenius norm of all of B - B^T and ``height`` the rows of the weight
    that it limits, both of the whole that these are a part of.
    """

    blocks: Tensor
    norm: float
    height: int

    @classmethod
    def of(cls, blocks: Tensor, height: int) -> Rotations:
        """All rotations of ``height`` rows, their norm taken in float64."""
        return cls(blocks, float(torch.linalg.vector_norm(_skew(blocks.to(torch.float64)))), height)

    def scale(self, alpha: float | None, *, by_height: bool = True) -> float:
        """What B - B^T is multiplied with, so that its norm is at most ``alpha * height``."""
        limit = (alpha or 0.0) * (self.height if by_height else 1)
        norm = self.norm + _LEAST
        return limit / norm if 0.0 < limit < norm else 1.0

    def matrices(self, dtype: torch.dtype, scale: float) -> Tensor:
        """``R = (I + Q)(I - Q)^-1`` with ``Q = scale * (B - B^T)``: ``[..., b, b]``."""
        return cayley(_skew(self.blocks.to(dtype)) * scale)

    def taken(self, blocks: Tensor) -> Rotations:
        """Some of the blocks, with the limit of all."""
        return replace(self, blocks=blocks)

    def whole(self) -> Tensor:
        """The blocks, where they are all: a part has not the limit that its format would give it."""
        if self.blocks.shape[-3] * self.blocks.shape[-1] != self.height:
            raise ValueError("some of the blocks under a common limit are none")
        return self.blocks

    def to(self, device: str | torch.device) -> Rotations:
        return replace(self, blocks=self.blocks.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class OFT:
    """``W'_k = R_k^T W_k`` for blocks of rows ``W_k: [b, I*k]``, then times ``rescale`` row by row.

    ``splits`` follow one another down the rows, each ``[n, b, b]`` with a limit of its own:
    one in LyCORIS' files, one for each of q, k, v and mlp of a fused weight in sd-scripts'
    for Flux. ``alpha`` limits as in the module's docstring. ``direct``: the blocks are R
    themselves (LyCORIS' first files, ``oft_diag``). ``rescale: [O]``. ``role`` is the
    blocks' name in the file, which splits number.

    *Source*: Qiu et al., "Controlling Text-to-Image Diffusion by Orthogonal Finetuning",
    NeurIPS 2023; lycoris-lora 4.1.3 ``functional/diag_oft.py``; kohya-ss/sd-scripts 48d368f
    ``networks/oft.py``, ``oft_flux.py``; A1111 ``extensions-builtin/Lora/network_oft.py``
    for ``oft_diag``; for ``comfy`` ComfyUI 9c0cf36 ``comfy/weight_adapter/oft.py``.
    """

    splits: tuple[Rotations, ...]
    rescale: Tensor | None = None
    alpha: float | None = None
    direct: bool = False
    numbered: bool = False

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:
        """The weight ``[O, I, *k]`` after it.

        ``lycoris``: the rotations ``I + strength * (R - I)``, ``rescale`` in full. ``comfy``:
        ``W + strength * strength * (R - I)^T W``, alpha not multiplied, no ``rescale``.
        """
        if rule != "exact" and self._name != "OFT":
            raise undefined(rule, self._name)
        if rule == "comfy":
            return blended(weight, self._turned(weight, strength, by_height=False), strength)
        if rule == "lycoris":
            return self._rescaled(self._turned(weight, strength))
        return blended(weight, self._rescaled(self._turned(weight, 1.0)), strength)

    def _turned(self, weight: Tensor, part: float, *, by_height: bool = True) -> Tensor:
        """Each block turned by ``I + part * (R - I)``, a new tensor."""
        turned, first = torch.empty_like(weight), 0
        for split in self.splits:
            scale = split.scale(self.alpha, by_height=by_height)
            dtype = weight.dtype
            matrices = split.blocks.to(dtype) if self.direct else split.matrices(dtype, scale)
            count, size, _ = matrices.shape
            last = first + count * size
            turned[first:last] = rotated(towards(matrices, part).mT, weight[first:last])
            first = last
        return turned

    def _rescaled(self, weight: Tensor) -> Tensor:
        if self.rescale is None:
            return weight
        return weight.mul_(self.rescale.to(weight.dtype).reshape(-1, *(1 for _ in weight.shape[1:])))

    def rows(self, start: int, stop: int) -> OFT:
        splits = tuple(split for split in self._within(start, stop) if len(split.blocks))
        rescale = None if self.rescale is None else self.rescale[start:stop]
        return replace(self, splits=splits, rescale=rescale)

    def _within(self, start: int, stop: int) -> Iterator[Rotations]:
        """Of each split the blocks in rows ``[start, stop)``."""
        first = 0
        for split in self.splits:
            count, size, _ = split.blocks.shape
            begin, end = (max(0, min(edge - first, count * size)) for edge in (start, stop))
            if begin % size or end % size:
                raise ValueError(f"rows {start} to {stop} cut a block of {size}")
            yield split.taken(split.blocks[begin // size : end // size])
            first += count * size

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """Blocks, ``rescale`` and alpha; strength 1 and all rows only."""
        kept(self._name, strength)
        blocks = [split.whole() for split in self.splits]
        rescale = {} if self.rescale is None else {".rescale": self.rescale}
        if self.direct:
            return {DIAGONAL: blocks[0], **rescale}
        names = [f"{BLOCKS}.{i}" for i in range(len(blocks))] if self.numbered else [BLOCKS]
        alpha = torch.tensor(self.alpha or 0.0)
        return {**dict(zip(names, blocks, strict=True)), **rescale, ".alpha": alpha}

    def to(self, device: str | torch.device) -> OFT:
        rescale = None if self.rescale is None else self.rescale.to(device)
        return replace(self, splits=tuple(split.to(device) for split in self.splits), rescale=rescale)

    @property
    def _name(self) -> str:
        return "old OFT" if self.direct else "kohya OFT" if self.numbered else "OFT"


def cayley(skew: Tensor) -> Tensor:
    """``(I + Q)(I - Q)^-1``, a rotation for skew-symmetric ``Q: [..., b, b]``.

    >>> cayley(torch.tensor([[0.0, -1.0], [1.0, 0.0]])).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    one = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    # The two factors commute; I - Q has no eigenvalue below 1 in magnitude.
    rotation: Tensor = torch.linalg.solve(one - skew, one + skew)
    return rotation


def rotated(matrices: Tensor, weight: Tensor) -> Tensor:
    """``matrices: [n, b, b]`` times the blocks of rows of ``weight: [n*b, ...]``."""
    blocks = weight.reshape(*matrices.shape[:2], -1)
    return (matrices @ blocks).reshape(weight.shape)


def towards(matrices: Tensor, part: float) -> Tensor:
    """``I + part * (R - I)``."""
    if part == 1.0:
        return matrices
    one = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    return one + (matrices - one) * part


def _skew(blocks: Tensor) -> Tensor:
    return blocks - blocks.mT
