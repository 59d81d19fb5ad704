"""IA3: a gain for each row or each input channel of a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.operators.operator import blended
from lorapipe.weights.strength import undefined

__all__ = ["GAIN", "IA3", "ON_INPUT", "PEFT_GAIN"]

GAIN, ON_INPUT = ".weight", ".on_input"
PEFT_GAIN = ".ia3_l"


@dataclass(frozen=True, slots=True, eq=False)
class IA3:
    """``W' = W * (1 + g)``, ``g: [O]`` for each row, or ``on_input`` ``[I]`` for each input channel.

    ``of_peft``: ``W' = W * g``, and a bias ``[O]`` is multiplied with the gain of its row as
    well. Strength multiplies what is beyond 1, whatever the rule.

    *Source*: Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper
    than In-Context Learning", NeurIPS 2022; lycoris-lora 4.1.3 ``modules/ia3.py``, where
    the gain begins at 0; huggingface/peft 0.21.2 ``tuners/ia3/layer.py``, where it begins at 1.
    """

    gain: Tensor
    on_input: bool
    of_peft: bool = False

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:
        """The weight ``[O, I, *k]`` or bias ``[O]`` after it. Raises :class:`BuildError` ``gain-misfit``."""
        name = "PEFT IA3" if self.of_peft else "IA3"
        if rule == "comfy" or (rule == "lycoris" and self.of_peft):
            raise undefined(rule, name)
        axis = 1 if self.on_input else 0
        if weight.shape[axis] != len(self.gain):
            side = "input channels" if self.on_input else "rows"
            raise BuildError("gain-misfit", f"{len(self.gain)} gains are not for {weight.shape[axis]} {side}")
        shape = [-1 if other == axis else 1 for other in range(weight.ndim)]
        gain = self.gain.to(weight.dtype).reshape(shape)
        return blended(weight, weight * (gain if self.of_peft else 1.0 + gain), strength)

    def rows(self, start: int, stop: int) -> IA3:
        return self if self.on_input else replace(self, gain=self.gain[start:stop])

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """The gain with the strength in it, in float64, and LyCORIS' side of it."""
        exact = self.gain if strength == 1.0 else self.gain.to(torch.float64)
        if self.of_peft:
            return {PEFT_GAIN: exact if strength == 1.0 else 1.0 + (exact - 1.0) * strength}
        return {GAIN: exact * strength, ON_INPUT: torch.tensor(int(self.on_input))}

    def to(self, device: str | torch.device) -> IA3:
        return replace(self, gain=self.gain.to(device))
