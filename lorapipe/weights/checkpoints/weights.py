"""The weights that a LoRA's modules are added to, one in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.checkpoints.checkpoint import Checkpoint
from lorapipe.weights.inference.binding import Binding, Bound
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.tensors import all_finite

__all__ = ["Weights"]


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Gives a module's weight as it is in a checkpoint, edits and all, whatever the file makes of it.

    ``name`` is what errors call the checkpoint.
    """

    checkpoint: Checkpoint
    places: Mapping[ModuleId, Sequence[Bound]]
    name: str
    compute: str = "float64"
    device: str = "cpu"

    @classmethod
    def of(cls, checkpoint: Checkpoint, binding: Binding, name: str, compute: str, device: str) -> Weights:
        """The weights of all modules that ``binding`` has places for."""
        places: dict[ModuleId, list[Bound]] = {}
        for bound in binding.bound:
            places.setdefault(bound.module, []).append(bound)
        return cls(checkpoint, places, name, compute, device)

    def matrix(self, module: ModuleId) -> Tensor:
        """The module's weight ``[O, I*k]`` in the compute type, rows of a fused one alone.

        Raises :class:`BuildError` ``not-finite``.
        """
        parts = [self._part(bound) for bound in sorted(self.places[module], key=lambda b: b.part or (0, 0))]
        matrix = parts[0] if len(parts) == 1 else torch.cat(parts)
        if not all_finite(matrix):
            message = f"the weight of '{self.name}' holds NaN or Inf"
            raise BuildError("not-finite", message, hint="the checkpoint is damaged")
        return matrix

    def _part(self, bound: Bound) -> Tensor:
        whole = (0, self.checkpoint.spec.tensors[bound.key].shape[0])
        start, stop = whole if bound.transposed or bound.rows is None else bound.rows
        matrix = self.checkpoint.rows(bound.key, start, stop, compute=self.compute, device=self.device)
        return matrix.T if bound.transposed else matrix
