"""The port of adapters that do not add: they map a weight to another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from lorapipe.errors import BuildError

__all__ = ["Operated", "Operator", "Turned", "blended", "kept"]


class Operator(Protocol):
    """What an adapter was trained to make of a weight. Its tensors are in memory."""

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:
        """The weight after the adapter: both ``[O, I, *k]`` in the compute dtype; a new tensor.

        ``exact`` is ``W + strength * (op(W) - W)`` for each operator, ``op`` being the
        formula it was trained with. The others are what a program of that name computes:
        see :data:`~lorapipe.weights.strength.RULES`. Raises
        :class:`~lorapipe.errors.BuildError` where a rule has no meaning for it.
        """

    def rows(self, start: int, stop: int) -> Operator:
        """What it does to rows ``[start, stop)``, where the format's cuts allow that."""

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """Its tensors as its format has them, by what follows the module's stem.

        Kernels may be flattened: who saves them knows the shapes. Raises
        :class:`~lorapipe.errors.BuildError` ``strength-not-kept`` for a strength that the
        format has no place for.
        """

    def to(self, device: str | torch.device) -> Operator:
        """The same on ``device``."""


@dataclass(frozen=True, slots=True, eq=False)
class Operated:
    """A module that is an operator on a weight of ``shape``, with the strength it has so far.

    ``read`` gives the operator, anew for each use, as :class:`~lorapipe.weights.structures.lazy.Lazy`
    gives a structure.
    """

    shape: tuple[int, ...]
    strength: float
    read: Callable[[], Operator]

    def scaled(self, by: float) -> Operated:
        """The same operator at ``by`` times its strength."""
        return replace(self, strength=self.strength * by)

    def rows(self, start: int, stop: int) -> Operated:
        """The operator on rows ``[start, stop)`` of the weight, where its cuts allow that."""
        shape = (stop - start, *self.shape[1:])
        return replace(self, shape=shape, read=lambda: self.read().rows(start, stop))

    def transposed(self) -> Operated:
        """The operator on the weight's transpose."""
        return replace(self, shape=self.shape[::-1], read=lambda: Turned(self.read()))


@dataclass(frozen=True, slots=True, eq=False)
class Turned:
    """An operator for the transpose of the weight that a file means: no row is on its own."""

    operator: Operator

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:
        """What the operator makes of ``weight.T``, transposed; of a bias as it is."""
        if weight.ndim < 2:
            return self.operator.apply(weight, strength, rule)
        return self.operator.apply(weight.T, strength, rule).T

    def rows(self, start: int, stop: int) -> Operator:
        raise ValueError(f"rows {start} to {stop} of a transposed weight are columns")

    def written(self, strength: float = 1.0) -> Mapping[str, Tensor]:
        """As the file has them, that is for the weight it means."""
        return self.operator.written(strength)

    def to(self, device: str | torch.device) -> Turned:
        return Turned(self.operator.to(device))


def blended(weight: Tensor, changed: Tensor, strength: float) -> Tensor:
    """``W + strength * (changed - W)``, written over ``changed``; exactly that at 1, and W at 0.

    >>> blended(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0]), -0.5).tolist()
    [0.0, 2.0]
    """
    if strength == 1.0:
        return changed
    if strength == 0.0:
        return changed.copy_(weight)
    return changed.sub_(weight).mul_(strength).add_(weight)


def kept(name: str, strength: float) -> None:
    """Refuse to write a strength other than 1 into a format that has no place for one."""
    if strength != 1.0:
        raise BuildError(
            "strength-not-kept",
            f"the format {name} can only say strength 1, this is {strength:g}",
            hint="merge it into its checkpoint at that strength and extract a LoRA",
        )
