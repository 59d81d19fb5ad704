"""The port of adapters that do not add: they map a weight to another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["RULES", "Operated", "Operator"]

RULES = ("exact", "comfy", "lycoris")
"""What a strength other than 1 means; see :meth:`Operator.apply`."""


class Operator(Protocol):
    """What an adapter was trained to make of a weight. Its tensors are in memory."""

    def apply(self, weight: Tensor, strength: float, rule: str = "exact") -> Tensor:
        """The weight after the adapter: ``weight`` and result ``[O, I*k]`` in the compute dtype.

        ``exact`` is ``W + strength * (op(W) - W)`` for each operator, ``op`` being the
        formula it was trained with. The others are what a program of that name does.
        Raises :class:`~lorapipe.errors.BuildError` where a rule has no meaning for it.
        """

    def written(self) -> Mapping[str, Tensor]:
        """Its tensors as its format has them, by what follows the module's stem."""

    def to(self, device: str | torch.device) -> Operator:
        """The same on ``device``."""


@dataclass(frozen=True, slots=True, eq=False)
class Operated:
    """A module that is an operator on a weight of ``shape``, with the strength it has so far.

    ``read`` gives the operator, anew for each use, as :class:`~lorapipe.weights.lazy.Lazy`
    gives a structure.
    """

    shape: tuple[int, ...]
    strength: float
    read: Callable[[], Operator]

    def scaled(self, by: float) -> Operated:
        """The same operator at ``by`` times its strength."""
        return replace(self, strength=self.strength * by)
