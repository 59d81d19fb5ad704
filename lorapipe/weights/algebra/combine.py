"""The free steps: scaling and joining adapters touches coefficients and lists only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.inference.joining import Piece, join
from lorapipe.weights.inference.steps import module_factors, scale_spec
from lorapipe.weights.operators.operator import Operated
from lorapipe.weights.structures.delta import Delta

__all__ = ["AdapterTerm", "concat", "scale"]

AdapterTerm = tuple[str, float, Adapter]
"""A term of a concat: the name it goes by (its step), its weight, its value."""


def scale(adapter: Adapter, by: float = 1.0, components: Mapping[str, float] | None = None) -> Adapter:
    """``by * components[c] * delta`` for each module of component ``c`` (1.0 unless given).

    ``te`` stands for every text encoder. Modules scaled to 0 are left out. Raises what
    :func:`~lorapipe.weights.inference.steps.module_factors` raises.
    """
    factors = module_factors(adapter.spec, by, components)
    modules = {module: adapter.modules[module].scaled(factor) for module, factor in factors.items()}
    return Adapter(scale_spec(adapter.spec, by, components), modules, adapter.extras)


def concat(terms: Sequence[AdapterTerm], titles: Mapping[str, str] | None = None) -> Adapter:
    """``sum_i weight_i * delta_i``, module by module: term lists joined, nothing computed.

    Raises what :func:`~lorapipe.weights.inference.joining.join` raises, and :class:`BuildError`
    ``extras-disagree`` when two adapters hold different tensors under one name.
    """
    joint = join([(name, weight, adapter.spec) for name, weight, adapter in terms], titles)
    modules = {module: _joined(terms, pieces) for module, pieces in joint.pieces.items()}
    return Adapter(joint.spec, modules, _extras(terms) if joint.spec.extras else {})


def _joined(terms: Sequence[AdapterTerm], pieces: Sequence[Piece]) -> Delta | Operated:
    _, weight, adapter = terms[pieces[0].term]
    alone = adapter.modules[pieces[0].module]
    if isinstance(alone, Operated):
        return alone.scaled(weight)
    return _part(terms, pieces[0]).joined(*(_part(terms, piece) for piece in pieces[1:]))


def _part(terms: Sequence[AdapterTerm], piece: Piece) -> Delta:
    _, weight, adapter = terms[piece.term]
    delta = adapter.delta(piece.module).scaled(weight)
    whole = (piece.start, piece.stop) == (0, delta.shape[0])
    return delta if whole else delta.rows(piece.start, piece.stop)


def _extras(terms: Sequence[AdapterTerm]) -> dict[str, Tensor]:
    union: dict[str, Tensor] = {}
    for name, weight, adapter in terms:
        for extra, tensor in adapter.extras.items() if weight else ():
            if not _same(union.setdefault(extra, tensor), tensor):
                raise BuildError("extras-disagree", f"'{name}' holds another '{extra}' than a LoRA before it")
    return union


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or torch.equal(a, b)
