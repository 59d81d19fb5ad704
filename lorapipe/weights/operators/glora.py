"""GLoRA: a delta, and another that is a low-rank function of the weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorapipe.weights.structures.structure import Loaded, negated

__all__ = ["A1", "A2", "B1", "B2", "BM", "GLoRA"]

A1, A2, B1, B2, BM = ".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight", ".bm.weight"


@dataclass(frozen=True, slots=True, eq=False)
class GLoRA:
    """``W' = W + c (W a b + delta)``, the product with W over its input channels.

    ``a: [I, r]``, ``b: [r, I]``; ``delta: [O, I*k]`` is two factors, or three (Tucker).
    ``c`` is alpha / r. LyCORIS' present files have a1 = a, a2 = b and b1 b2 as the delta;
    its ``old`` ones a2 = a, a1 = b and b2 b1.

    *Source*: Chavan et al., "One-for-All: Generalized LoRA for Parameter-Efficient
    Fine-tuning", arXiv 2306.07967; lycoris-lora 4.1.3 ``modules/glora.py``; the old order
    ComfyUI 17adbb5 ``comfy/weight_adapter/glora.py``.
    """

    a: Tensor
    b: Tensor
    delta: Loaded
    coefficient: float = 1.0
    old: bool = False

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:  # noqa: ARG002  # all rules agree
        """The weight ``[O, I, *k]`` after it; strength multiplies what is added."""
        dtype = weight.dtype
        channels = weight.movedim(1, -1)  # [O, *k, I]
        added = ((channels @ self.a.to(dtype)) @ self.b.to(dtype)).movedim(-1, 1)
        added = added + self.delta.dense(dtype).reshape(weight.shape)
        return torch.add(weight, added, alpha=self.coefficient * strength)

    def rows(self, start: int, stop: int) -> GLoRA:
        return replace(self, delta=self.delta.rows(start, stop))

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """The four tensors (five with a core), the strength in alpha, its sign on one of each pair."""
        coefficient = self.coefficient * strength
        inner = self.delta.written(coefficient)
        up, down = inner.tensors[".lora_up.weight"], inner.tensors[".lora_down.weight"]
        core = inner.tensors.get(".lora_mid.weight")
        a = self.a if coefficient > 0 else negated(self.a)
        tensors = {A1: a, A2: self.b, B1: up, B2: down}
        if self.old:
            tensors = {A1: self.b, A2: a, B1: down, B2: up}
        alpha = torch.tensor(abs(coefficient) * self.a.shape[1])
        return {**tensors, **({} if core is None else {BM: core}), ".alpha": alpha}

    def to(self, device: str | torch.device) -> GLoRA:
        moved = replace(self, a=self.a.to(device), b=self.b.to(device))
        return replace(moved, delta=self.delta.to(device))
