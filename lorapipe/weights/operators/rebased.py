"""An adapter that brings the weight it was trained on: PEFT saves embeddings and heads so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lorapipe.weights.operators.operator import Operator, blended, kept
from lorapipe.weights.strength import undefined
from lorapipe.weights.structures.structure import Loaded

__all__ = ["BASE", "Added", "Rebased"]

BASE = ".base_layer.weight"


@dataclass(frozen=True, slots=True, eq=False)
class Added:
    """``W' = W + coefficient * delta``: what adds, as an operator beside others."""

    delta: Loaded
    coefficient: float

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:  # noqa: ARG002  # one for all
        """The weight ``[O, I, *k]`` after it."""
        dense = self.delta.dense(weight.dtype).reshape(weight.shape)
        return weight + dense * (self.coefficient * strength)

    def rows(self, start: int, stop: int) -> Added:
        return replace(self, delta=self.delta.rows(start, stop))

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """The delta's own tensors with the strength in them."""
        inner = self.delta.written(self.coefficient * strength)
        alpha = {} if inner.alpha is None else {".alpha": torch.tensor(inner.alpha)}
        return {**inner.tensors, **alpha}

    def to(self, device: str | torch.device) -> Added:
        return replace(self, delta=self.delta.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class Rebased:
    """``W' = inner(base)``, whatever W is.

    ``base: [O, ...]`` is the saved weight. ``tensors`` are the file's own by role, which are
    what is written.
    *Source*: huggingface/peft 0.21.2 ``utils/save_and_load.py``: ``base_layer`` is loaded
    over the model's weight, and the adapter acts on it.
    """

    base: Tensor
    inner: Operator
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:
        """The weight after it: ``weight`` and result ``[O, I, *k]`` in the compute dtype."""
        if rule != "exact":
            raise undefined(rule, "adapter with a weight of its own")
        base = self.base.to(weight.dtype).reshape(weight.shape)
        return blended(weight, self.inner.apply(base, 1.0), strength)

    def rows(self, start: int, stop: int) -> Rebased:
        return Rebased(self.base[start:stop], self.inner.rows(start, stop))

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """The file's own tensors; strength 1 only."""
        kept("PEFT", strength)
        if not self.tensors:
            raise ValueError("some rows of an adapter with a weight of its own have no format")
        return self.tensors

    def to(self, device: str | torch.device) -> Rebased:
        moved = {role: tensor.to(device) for role, tensor in self.tensors.items()}
        return Rebased(self.base.to(device), self.inner.to(device), moved)
