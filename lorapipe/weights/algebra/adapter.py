"""A LoRA as a value: its spec and, module by module, its deltas or operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from lorapipe.errors import LorapipeError
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.specs import AdapterSpec, ModuleId
from lorapipe.weights.structures.delta import Delta

__all__ = ["Adapter"]


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """The deltas of a LoRA by module (operators where it does not add), and its other tensors.

    ``spec`` says what is in it: the same module ids, shapes and stacked ranks, and the
    same names of ``extras``.
    """

    spec: AdapterSpec
    modules: Mapping[ModuleId, Delta | Operated]
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def check(self, foretold: AdapterSpec) -> None:
        """Hold the value against the spec that was inferred for it, before any data was read.

        Raises :class:`LorapipeError` ``spec-not-kept``, an internal fault, when the specs
        differ or the deltas are not of the foretold ids, shapes and ranks.
        """
        if not foretold.admits(self.spec) or self.spec.bounded:
            raise _not_kept("the result's spec is not the one that was inferred")
        if set(self.modules) != set(foretold.modules):
            odd = min(set(self.modules) ^ set(foretold.modules), key=str)
            raise _not_kept("the module is only in one of the result and its spec", str(odd))
        for module, spec in self.spec.modules.items():
            value = self.modules[module]
            rank = value.rank if isinstance(value, Delta) else 0
            if (value.shape, rank) != (spec.shape, spec.rank):
                found = f"shape {list(value.shape)} and rank {rank}"
                wanted = f"shape {list(spec.shape)} and rank {spec.rank}"
                raise _not_kept(f"the result has {found} where {wanted} were inferred", str(module))
        if set(self.extras) != set(foretold.extras):
            raise _not_kept("the result's extra tensors are not those that were inferred")

    def delta(self, module: ModuleId) -> Delta:
        """The delta of a module that is known to be one: steps refuse others by the spec."""
        value = self.modules[module]
        if not isinstance(value, Delta):
            raise _not_kept("a delta is due where the LoRA has an operator", str(module))
        return value


def _not_kept(message: str, module: str | None = None) -> LorapipeError:
    return LorapipeError("spec-not-kept", message, module=module, hint="this is a fault of lorapipe")
