"""The free steps: scaling and joining adapters touches coefficients and lists only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.inference.joining import Piece, join
from lorapipe.weights.inference.steps import Factors, filter_spec, module_factors, scale_spec
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.specs import ModuleId
from lorapipe.weights.structures.delta import Delta

__all__ = ["AdapterTerm", "concat", "kept", "part", "scale", "united_extras"]

AdapterTerm = tuple[str, float, Adapter]
"""A term of a concat: the name it goes by (its step), its weight, its value."""


def scale(adapter: Adapter, factors: Factors) -> Adapter:
    """``f * delta`` for each module, ``f`` one number or each module's own.

    Modules scaled to 0 are left out. Raises what
    :func:`~lorapipe.weights.inference.steps.module_factors` raises.
    """
    live = module_factors(adapter.spec, factors)
    modules = {module: adapter.modules[module].scaled(factor) for module, factor in live.items()}
    return Adapter(scale_spec(adapter.spec, factors), modules, adapter.extras)


def kept(adapter: Adapter, modules: Collection[ModuleId]) -> Adapter:
    """Some of an adapter's modules as they are. Raises what :func:`~.inference.steps.filter_spec` raises."""
    spec = filter_spec(adapter.spec, modules)
    return Adapter(spec, {module: adapter.modules[module] for module in spec.modules}, adapter.extras)


def concat(terms: Sequence[AdapterTerm], titles: Mapping[str, str] | None = None) -> Adapter:
    """``sum_i weight_i * delta_i``, module by module: term lists joined, nothing computed.

    Raises what :func:`~lorapipe.weights.inference.joining.join` raises, and :class:`BuildError`
    ``extras-disagree`` when two adapters hold different tensors under one name.
    """
    joint = join([(name, weight, adapter.spec) for name, weight, adapter in terms], titles)
    modules = {module: _joined(terms, pieces) for module, pieces in joint.pieces.items()}
    return Adapter(joint.spec, modules, united_extras(terms) if joint.spec.extras else {})


def _joined(terms: Sequence[AdapterTerm], pieces: Sequence[Piece]) -> Delta | Operated:
    _, weight, adapter = terms[pieces[0].term]
    alone = adapter.modules[pieces[0].module]
    if isinstance(alone, Operated):
        return alone.scaled(weight)
    first, *others = (part(terms[p.term][2], p).scaled(terms[p.term][1]) for p in pieces)
    return first.joined(*others)


def part(adapter: Adapter, piece: Piece) -> Delta:
    """The rows of one of the adapter's deltas that go into a joined module."""
    delta = adapter.delta(piece.module)
    whole = (piece.start, piece.stop) == (0, delta.shape[0])
    return delta if whole else delta.rows(piece.start, piece.stop)


def united_extras(terms: Sequence[AdapterTerm]) -> dict[str, Tensor]:
    """The other tensors of all terms; raises what :func:`concat` says."""
    union: dict[str, Tensor] = {}
    for name, weight, adapter in terms:
        for extra, tensor in adapter.extras.items() if weight else ():
            if not _same(union.setdefault(extra, tensor), tensor):
                raise BuildError("extras-disagree", f"'{name}' holds another '{extra}' than a LoRA before it")
    return union


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or torch.equal(a, b)
