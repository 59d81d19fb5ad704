"""A bound LoRA file's numbers: factors, alphas, embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lorapipe.formats.factors import Extra, Factors
from lorapipe.formats.problems import Problems
from lorapipe.weights.adapter import Adapter
from lorapipe.weights.delta import Delta, LowRank, Term
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import AdapterSpec, ModuleId
from lorapipe.weights.tensors import from_bytes

__all__ = ["read_values"]


def read_values(
    source: TensorSource,
    spec: AdapterSpec,
    factors: Mapping[ModuleId, Factors],
    extras: Mapping[str, Extra],
    device: str,
) -> Adapter:
    """Read what ``spec`` describes; ``factors`` and ``extras`` say from which tensors.

    Each module is one term ``alpha / rank * up @ down`` (1.0 for ``alpha / rank`` where
    the file has no alpha), its factors 2-D, in their own dtypes, transposed where the
    reference weight is the transpose of what the file means.

    Raises :class:`~lorapipe.errors.InputError`, or ``ManyErrors``, for NaN or Inf in a
    factor and for an alpha of 0, NaN or Inf.
    """
    problems = Problems(source)
    modules: dict[ModuleId, Delta] = {}
    for module, tensors in factors.items():
        known = spec.modules[module]
        up = _matrix(source, tensors.up, device, problems)
        down = _matrix(source, tensors.down, device, problems)
        pair = LowRank(up, down)
        if known.spelling.transposed:
            pair = pair.transposed()
        alpha = known.rank if tensors.alpha is None else _alpha(source, tensors.alpha, problems)
        modules[module] = Delta(known.shape, (Term(alpha / known.rank, pair),))
    problems.check()
    kept = {name: _tensor(source, e.tensor).reshape(e.spec.shape).to(device) for name, e in extras.items()}
    return Adapter(spec, modules, kept)


def _tensor(source: TensorSource, name: str) -> Tensor:
    return from_bytes(source.read(name), source.tensors[name])


def _matrix(source: TensorSource, name: str, device: str, problems: Problems) -> Tensor:
    """A factor as 2-D: ``[O, r, 1, 1]`` to ``[O, r]``, ``[r, I, *k]`` to ``[r, I*k]``."""
    tensor = _tensor(source, name)
    # Eight-bit floats know no isfinite.
    wide = tensor.to(torch.float32) if tensor.element_size() == 1 else tensor
    if not bool(torch.isfinite(wide).all()):
        problems.add("not-finite", name)
    return tensor.flatten(1).to(device)


def _alpha(source: TensorSource, name: str, problems: Problems) -> float:
    value = float(_tensor(source, name).reshape(()).to(torch.float64))
    if value == 0.0 or not math.isfinite(value):
        problems.add("bad-alpha", f"{name} ({value})")
    return value
