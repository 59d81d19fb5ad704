"""A LoRA, or what else there is of its sort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lorapipe.weights.specs.modules import ModuleId, ModuleSpec
from lorapipe.weights.specs.tensors import TensorSpec

__all__ = ["AdapterSpec"]


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """A LoRA: module by module what is known of it before its data is read.

    ``family`` is an architecture's name or ``None`` when unknown. ``dtype`` is the
    one dtype common to all factors (``F32`` when they differ): what ``dtype: keep``
    writes. ``metadata`` is the file's own; ``extras`` are tensors which are not
    weights (``bundle_emb.*``) and pass through. ``hidden`` is set by ``shuffle``:
    nothing of the sources may be written with what follows. ``bounded`` says that ranks
    are upper bounds, since only the data tell them, and down to 0, which is no module to a
    file; the spec of a value never is. ``also`` are
    further families, variants of the first, to which it may belong just as well.
    """

    family: str | None
    modules: Mapping[ModuleId, ModuleSpec]
    dtype: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, TensorSpec] = field(default_factory=dict)
    hidden: bool = False
    bounded: bool = False
    also: tuple[str, ...] = ()

    @property
    def families(self) -> frozenset[str]:
        """All that it may belong to; none of an unknown family."""
        return frozenset(() if self.family is None else (self.family, *self.also))

    @property
    def elements(self) -> int:
        """Numbers in all factors together; at most, where ranks are bounds."""
        return sum(m.elements for m in self.modules.values())

    def admits(self, found: AdapterSpec) -> bool:
        """Whether a value of the spec ``found`` is what this one foretold."""
        if not self.bounded or found.modules.keys() != self.modules.keys():
            return found == self
        within = all(known.admits(found.modules[m]) for m, known in self.modules.items())
        return within and replace(found, modules=self.modules, bounded=True) == self
