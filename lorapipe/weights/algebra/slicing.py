"""``dylora-slice``: the first components of each module."""

from __future__ import annotations

from math import sqrt

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.borders import inside
from lorapipe.weights.inference.steps import slice_spec
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy, leading
from lorapipe.weights.structures.structure import LowRank

__all__ = ["sliced"]


def sliced(adapter: Adapter, components: int, *, trained: bool = False) -> Adapter:
    """``alpha' / N * up[:, :N] @ down[:N]`` for each module of more than ``N = components``.

    ``alpha'`` is alpha, as DyLoRA defines its strength and kohya-ss/sd-scripts 48d368f
    ``extract_lora_from_dylora.py`` writes it. That is not the strength at which the same
    program's trainer (``dylora.py``, ``DyLoRAModule.forward``) ran the first N of R: it
    multiplies ``alpha / R`` by ``sqrt(R / N)``, which ``trained`` gives, as ``alpha' = alpha sqrt(N / R)``.
    Nothing is rounded: the factors are the file's, and only the coefficient changes.

    *Source*: Valipour, Rezagholizadeh, Kobyzev and Ghodsi, "DyLoRA" (2022, arXiv:2210.07558).
    Raises what :func:`~.inference.steps.slice_spec` raises, and :class:`BuildError`
    ``several-terms`` where a module is a sum, which has no first components.
    """
    spec = slice_spec(adapter.spec, components)
    modules = dict(adapter.modules)
    for module, known in spec.modules.items():
        if known.rank != adapter.spec.modules[module].rank:
            with inside(module):
                modules[module] = _first(adapter.delta(module), known.rank, trained=trained)
    return Adapter(spec, modules, adapter.extras)


def _first(delta: Delta, components: int, *, trained: bool) -> Delta:
    if len(delta.terms) > 1:
        hint = "slice each before they are joined"
        raise BuildError("several-terms", "a sum of LoRAs has no first components", hint=hint)
    (term,) = delta.terms
    factors = term.structure
    assert isinstance(factors, LowRank | Lazy)
    share = factors.rank / components
    strength = sqrt(share) if trained else share
    return Delta(delta.shape, (Term(term.coefficient * strength, leading(factors, components)),))
