"""DoRA: a delta, and the length that each row or column of the weight has after it.

Deviations, where the programs differ:

1. The norm is that of the weight with its delta, as all trainers have it. ComfyUI
   divides by the norm of the weight without it (output axis only): ``rule: comfy``.
2. Strength interpolates between the weights. LyCORIS leaves the delta in at strength 0:
   ``rule: lycoris``.
3. LyCORIS adds the machine epsilon of its training type to a norm. Files in half types
   come from training in fp32, whose epsilon it is here. PEFT adds nothing, and gets NaN
   for a row of zeros, which here stays one of zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lorapipe.weights.blocks import BLOCK_ELEMENTS
from lorapipe.weights.operators.operator import blended, kept
from lorapipe.weights.strength import undefined
from lorapipe.weights.structures.structure import Loaded

__all__ = ["MAGNITUDE", "SCALE", "DoRA", "epsilon"]

SCALE, MAGNITUDE = ".dora_scale", ".lora_magnitude_vector"
"""The magnitude in LyCORIS' and kohya's files, and in PEFT's."""


@dataclass(frozen=True, slots=True, eq=False)
class DoRA:
    """``W' = V * m / (norm(V) + eps)`` with ``V = W + coefficient * delta``.

    ``magnitude`` is flat: ``[O]``, the norms being those of V's rows (all of ``I*k``), or
    with ``on_input`` ``[I]``, those of its input channels (all of ``O`` and ``k``).
    ``delta`` is any structure for ``[O, I*k]``: LoRA, LoHa, LoKr, Tucker. ``role`` is the
    magnitude's name in the file, ``names`` are those of the delta's tensors that have others
    there than in its own format.

    *Source*: Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", arXiv 2402.09353,
    equation 5; lycoris-lora 4.1.3 ``functional/general.py`` ``_weight_decompose``;
    huggingface/peft 0.21.2 ``tuners/lora/dora.py``; for ``comfy`` ComfyUI 9c0cf36
    ``comfy/weight_adapter/base.py`` ``weight_decompose``.
    """

    delta: Loaded
    coefficient: float
    magnitude: Tensor
    on_input: bool = False
    role: str = SCALE
    names: Mapping[str, str] = field(default_factory=dict)

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:
        """The weight ``[O, I, *k]`` after it. ``lycoris``: ``V * (strength * (m / norm(V) - 1) + 1)``."""
        if rule != "exact" and self.role != SCALE:
            raise undefined(rule, "PEFT DoRA")
        changed = self._added(weight)
        measured = weight if rule == "comfy" and not self.on_input else changed
        gain = self._gain(measured)
        if rule == "lycoris":
            return changed.mul_((gain - 1.0) * strength + 1.0)
        return blended(weight, changed.mul_(gain), strength)

    def _added(self, weight: Tensor) -> Tensor:
        """V, some rows of the delta at a time: along the input axis the weight comes whole."""
        changed = weight.clone()
        rows = changed.reshape(len(weight), -1)
        step = max(1, BLOCK_ELEMENTS // rows.shape[1])
        for start in range(0, len(rows), step):
            part = self.delta.rows(start, min(start + step, len(rows))).dense(weight.dtype)
            rows[start : start + step].add_(part, alpha=self.coefficient)
        return changed

    def _gain(self, measured: Tensor) -> Tensor:
        """``m / (norm + eps)``, shaped to be multiplied with a weight."""
        axis = 1 if self.on_input else 0
        others = [other for other in range(measured.ndim) if other != axis]
        norm = torch.linalg.vector_norm(measured, dim=others, keepdim=True)
        magnitude = self.magnitude.to(measured.dtype).reshape(norm.shape)
        if self.role == SCALE:
            gain: Tensor = magnitude / (norm + epsilon(self.magnitude.dtype))
            return gain
        return torch.where(norm > 0.0, magnitude / norm, 0.0)

    def rows(self, start: int, stop: int) -> DoRA:
        if self.on_input:
            raise ValueError("a DoRA along the input axis sees all rows")
        return replace(self, delta=self.delta.rows(start, stop), magnitude=self.magnitude[start:stop])

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """The delta's own tensors and the magnitude; strength 1 only."""
        kept("DoRA", strength)
        inner = self.delta.written(self.coefficient)
        alpha = {} if inner.alpha is None else {".alpha": torch.tensor(inner.alpha)}
        tensors = {self.names.get(role, role): tensor for role, tensor in inner.tensors.items()}
        return {**tensors, self.role: self.magnitude, **alpha}

    def to(self, device: str | torch.device) -> DoRA:
        return replace(self, delta=self.delta.to(device), magnitude=self.magnitude.to(device))


def epsilon(kept: torch.dtype) -> float:
    """What LyCORIS added to a norm when it trained lengths that are kept in this type.

    >>> epsilon(torch.float16) == 2.0**-23, epsilon(torch.float64) == 2.0**-52
    (True, True)
    """
    return torch.finfo(kept if kept == torch.float64 else torch.float32).eps
