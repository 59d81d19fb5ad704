"""IA3: a gain for each row or each input channel of a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorapipe.weights.operators.operator import blended
from lorapipe.weights.strength import undefined

__all__ = ["GAIN", "IA3", "ON_INPUT"]

GAIN, ON_INPUT = ".weight", ".on_input"


@dataclass(frozen=True, slots=True, eq=False)
class IA3:
    """``W' = W * (1 + g)``, ``g: [O]`` for each row, or ``on_input`` ``[I]`` for each input channel.

    The bias stays as it is. Strength multiplies the gain, whatever the rule.

    *Source*: Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper
    than In-Context Learning", NeurIPS 2022; lycoris-lora 4.1.3 ``modules/ia3.py``, where
    the gain begins at 0 (PEFT's begins at 1).
    """

    gain: Tensor
    on_input: bool

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:
        """The weight ``[O, I, *k]`` after it."""
        if rule == "comfy":
            raise undefined(rule, "IA3")
        shape = [1] * weight.ndim
        shape[1 if self.on_input else 0] = -1
        return blended(weight, weight * (1.0 + self.gain.to(weight.dtype).reshape(shape)), strength)

    def rows(self, start: int, stop: int) -> IA3:
        return self if self.on_input else replace(self, gain=self.gain[start:stop])

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """The gain, times the strength in float64, and the side that it is on."""
        gain = self.gain if strength == 1.0 else self.gain.to(torch.float64) * strength
        return {GAIN: gain, ON_INPUT: torch.tensor(int(self.on_input))}

    def to(self, device: str | torch.device) -> IA3:
        return replace(self, gain=self.gain.to(device))
