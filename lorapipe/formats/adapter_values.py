"""A bound LoRA file's numbers: factors, alphas, embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lorapipe.formats.factors import Extra
from lorapipe.formats.factors import Factors as Tensors
from lorapipe.formats.problems import Problems
from lorapipe.weights.adapter import Adapter
from lorapipe.weights.delta import Delta, Term
from lorapipe.weights.lazy import Lazy
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec
from lorapipe.weights.structures import LowRank, Structure
from lorapipe.weights.tensors import all_finite, from_bytes

__all__ = ["read_values"]


def read_values(
    source: TensorSource,
    spec: AdapterSpec,
    factors: Mapping[ModuleId, Tensors],
    extras: Mapping[str, Extra],
    device: str,
) -> Adapter:
    """The adapter that ``spec`` describes; ``factors`` and ``extras`` say from which tensors.

    Each module is one term ``alpha / rank * up @ down`` (1.0 for ``alpha / rank`` where
    the file has no alpha), its factors 2-D, in their own dtypes, transposed where the
    reference weight is the transpose of what the file means. On the CPU factors stay in
    the file, which must stay open, and are read for each use; on another device they are
    read now and stay there.

    Raises :class:`~lorapipe.errors.InputError`, or ``ManyErrors``, for NaN or Inf in a
    factor and for an alpha of 0, NaN or Inf.
    """
    problems = Problems(source)
    modules: dict[ModuleId, Delta] = {}
    for module, tensors in factors.items():
        known = spec.modules[module]
        for name in (tensors.up, tensors.down):
            _check_finite(source, name, problems)
        alpha = known.rank if tensors.alpha is None else _alpha(source, tensors.alpha, problems)
        pair = _pair(source, tensors, known, device)
        modules[module] = Delta(known.shape, (Term(alpha / known.rank, pair),))
    problems.check()
    kept = {name: _tensor(source, e.tensor).reshape(e.spec.shape).to(device) for name, e in extras.items()}
    return Adapter(spec, modules, kept)


def _tensor(source: TensorSource, name: str) -> Tensor:
    return from_bytes(source.read(name), source.tensors[name])


def _pair(source: TensorSource, tensors: Tensors, known: ModuleSpec, device: str) -> Structure:
    def read() -> LowRank:
        pair = LowRank(_matrix(source, tensors.up), _matrix(source, tensors.down))
        return pair.transposed() if known.spelling.transposed else pair

    if torch.device(device).type == "cpu":
        return Lazy((known.shape[0], known.columns), known.rank, read)
    return read().to(device)


def _matrix(source: TensorSource, name: str) -> Tensor:
    """A factor as 2-D: ``[O, r, 1, 1]`` to ``[O, r]``, ``[r, I, *k]`` to ``[r, I*k]``."""
    return _tensor(source, name).flatten(1)


def _check_finite(source: TensorSource, name: str, problems: Problems) -> None:
    if not all_finite(_tensor(source, name)):
        problems.add("not-finite", name)


def _alpha(source: TensorSource, name: str, problems: Problems) -> float:
    value = float(_tensor(source, name).reshape(()).to(torch.float64))
    if value == 0.0 or not math.isfinite(value):
        problems.add("bad-alpha", f"{name} ({value})")
    return value
