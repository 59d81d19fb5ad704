"""A LoRA as a value: its spec and, module by module, its deltas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from lorapipe.errors import LorapipeError
from lorapipe.weights.delta import Delta
from lorapipe.weights.specs import AdapterSpec, ModuleId

__all__ = ["Adapter"]


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """The deltas of a LoRA by module, and the tensors that are not weights.

    ``spec`` says what is in it: the same module ids, shapes and stacked ranks, and the
    same names of ``extras``.
    """

    spec: AdapterSpec
    modules: Mapping[ModuleId, Delta]
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
            delta = self.modules[module]
            if (delta.shape, delta.rank) != (spec.shape, spec.rank):
                found = f"shape {list(delta.shape)} and rank {delta.rank}"
                wanted = f"shape {list(spec.shape)} and rank {spec.rank}"
                raise _not_kept(f"the result has {found} where {wanted} were inferred", str(module))
        if set(self.extras) != set(foretold.extras):
            raise _not_kept("the result's extra tensors are not those that were inferred")


def _not_kept(message: str, module: str | None = None) -> LorapipeError:
    return LorapipeError("spec-not-kept", message, module=module, hint="this is a fault of lorapipe")
