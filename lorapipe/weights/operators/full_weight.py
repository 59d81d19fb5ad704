"""Whole weights: one that takes the place of the checkpoint's, and one that is made larger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorapipe.weights.operators.operator import kept
from lorapipe.weights.strength import undefined
from lorapipe.weights.structures.structure import Loaded

__all__ = ["SET", "TARGET", "FullWeight", "Padded"]

SET, TARGET = ".set_weight", ".reshape_weight"


@dataclass(frozen=True, slots=True, eq=False)
class FullWeight:
    """``W' = value``, whatever W is: ``set_weight`` and PEFT's ``modules_to_save``.

    ``value: [O, ...]``, its kernel flattened or not. Programs ignore the strength
    (``comfy``); ``exact`` goes that part of the way.
    *Source*: ComfyUI 9c0cf36 ``comfy/lora.py`` (``set``).
    """

    value: Tensor

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:
        """The weight ``[O, I, *k]`` after it."""
        if rule == "lycoris":
            raise undefined(rule, "full weight")
        value = self.value.to(weight.dtype).reshape(weight.shape)
        if rule == "comfy" or strength == 1.0:
            return value.clone()
        return weight + (value - weight) * strength if strength else weight.clone()

    def rows(self, start: int, stop: int) -> FullWeight:
        return FullWeight(self.value[start:stop])

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """The value; strength 1 only."""
        kept("full weight", strength)
        return {SET: self.value}

    def to(self, device: str | torch.device) -> FullWeight:
        return FullWeight(self.value.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Padded:
    """``W' = pad(W) + coefficient * delta``: zeros make W as large as ``shape`` ``[O, I, *k]``.

    Additive otherwise: strength multiplies the delta, whatever the rule, and even at
    strength 0 the weight is padded. (``reshape_weight``; Flux's control LoRAs widen ``img_in``.)
    *Source*: ComfyUI 0323d87 ``comfy/weight_adapter/lora.py``.
    """

    delta: Loaded
    coefficient: float
    shape: tuple[int, ...]

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:
        """The padded weight of ``shape`` after it; ``weight`` is no larger in any axis."""
        if rule == "lycoris":
            raise undefined(rule, "padded LoRA")
        padded = weight.new_zeros(self.shape)
        padded[tuple(slice(0, size) for size in weight.shape)] = weight
        dense = self.delta.dense(weight.dtype).reshape(self.shape)
        return padded.add_(dense, alpha=self.coefficient * strength)

    def rows(self, start: int, stop: int) -> Padded:
        raise ValueError(f"a weight is padded as a whole, not its rows {start} to {stop}")

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """The delta's own tensors with the strength in them, and the shape."""
        inner = self.delta.written(self.coefficient * strength)
        alpha = {} if inner.alpha is None else {".alpha": torch.tensor(inner.alpha)}
        return {**inner.tensors, TARGET: torch.tensor(self.shape), **alpha}

    def to(self, device: str | torch.device) -> Padded:
        return replace(self, delta=self.delta.to(device))
