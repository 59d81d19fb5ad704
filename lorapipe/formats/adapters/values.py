"""A bound LoRA file's numbers: deltas, operators, alphas, embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lorapipe.formats.adapters.dialects import ALPHA
from lorapipe.formats.adapters.found import Extra, Found
from lorapipe.formats.adapters.placing import Placed
from lorapipe.formats.problems import Problems
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.operators.operator import Operated, Operator, Turned
from lorapipe.weights.operators.rebased import Added, Rebased
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import FLOATING, AdapterSpec, ModuleId
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.structure import Loaded
from lorapipe.weights.tensors import all_finite, from_bytes

__all__ = ["read_values"]

_AGREE = 4e-3
"""How far an alpha may be from the config's: it may be kept in bf16."""


def read_values(
    source: TensorSource,
    spec: AdapterSpec,
    placed: Mapping[ModuleId, Placed],
    extras: Mapping[str, Extra],
    device: str,
) -> Adapter:
    """The adapter that ``spec`` describes; ``placed`` and ``extras`` say from which tensors.

    A module that adds is one term: its scale (1.0 where neither the file nor its config has
    one) times its structure, in the tensors' own dtypes, transposed where the reference
    weight is the transpose of what the file means. On the CPU numbers stay in the file, which
    must stay open, and are read for each use; on another device they are read now and stay there.

    Raises :class:`~lorapipe.errors.InputError`, or ``ManyErrors``, for NaN or Inf in a
    tensor, for an alpha of 0, NaN or Inf, and for one that the config contradicts.
    """
    problems = Problems(source)
    numbers = _Numbers(source, device, problems)
    scales: dict[int, tuple[float, float | None]] = {}
    for found in (piece.found for piece in placed.values()):
        if id(found) not in scales:
            numbers.check(found)
            scales[id(found)] = numbers.scale(found)
    modules = {module: numbers.value(piece, *scales[id(piece.found)]) for module, piece in placed.items()}
    problems.check()
    kept = {name: numbers.tensor(e.tensor).reshape(e.spec.shape).to(device) for name, e in extras.items()}
    return Adapter(spec, modules, kept)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The numbers of one file, and what is wrong with them."""

    source: TensorSource
    device: str
    problems: Problems

    def tensor(self, name: str) -> Tensor:
        return from_bytes(self.source.read(name), self.source.tensors[name])

    def check(self, found: Found) -> None:
        """Note tensors with NaN or Inf."""
        for name in (*found.tensors.values(), *([] if found.base is None else [found.base])):
            if self.source.tensors[name].dtype in FLOATING and not all_finite(self.tensor(name)):
                self.problems.add("not-finite", name)

    def scale(self, found: Found) -> tuple[float, float | None]:
        """A module's coefficient, and its alpha as its format takes it."""
        scale = found.scale
        if scale.divisor is None:
            # Of no delta, or of one that PEFT scales all the same.
            alpha = None if scale.alpha is None else self._number(scale.alpha)
            return 1.0 if scale.config is None else scale.config, alpha
        said = scale.config
        if scale.factor is not None:
            said = self._strength(scale.factor, said)
        elif scale.alpha is not None:
            ratio = None if said is None else said * scale.divisor
            return (alpha := self._strength(scale.alpha, ratio)) / scale.divisor, alpha
        return (1.0, None) if said is None else (said, said * scale.divisor)

    def value(self, piece: Placed, coefficient: float, alpha: float | None) -> Delta | Operated:
        """What a module does to its weight."""
        spec, form = piece.spec, piece.found.form
        tensors = {role: partial(self.tensor, name) for role, name in piece.found.tensors.items()}
        whole = partial(form.value, tensors, alpha)
        turned, stays = spec.spelling.transposed, torch.device(self.device).type == "cpu"
        if not spec.additive:
            operator = partial(_operator, whole, turned, piece.rows)
            if piece.found.base is not None:
                operator = partial(self._rebased, piece, whole, coefficient)
            return Operated(spec.shape, 1.0, operator if stays else lambda: operator().to(self.device))
        structure = partial(_structure, whole, turned, piece.rows)
        lazy = Lazy((spec.shape[0], spec.columns), spec.rank, structure, form.plain)
        return Delta(spec.shape, (Term(coefficient, lazy if stays else lazy.load().to(self.device)),))

    def _rebased(self, piece: Placed, whole: Callable[[], Any], coefficient: float) -> Operator:
        """A module on the weight that it brings."""
        found, spec = piece.found, piece.spec
        assert found.base is not None
        assert spec.form is not None
        turned = spec.spelling.transposed
        inner: Operator
        if found.form.additive:
            inner = Added(_structure(whole, turned, None), coefficient)
        else:
            inner = _operator(whole, turned, None)
        base = self.tensor(found.base)
        own = {role: self.tensor(name) for role, name in found.tensors.items()}
        names = [suffix for suffix, _ in spec.form.tensors]
        if ALPHA in names:
            own[ALPHA] = torch.tensor(coefficient * (found.scale.divisor or 1))
        rebased = Rebased(base, inner, dict(zip(names, [*own.values(), base], strict=True)))
        return rebased if piece.rows is None else rebased.rows(*piece.rows)

    def _strength(self, name: str, said: float | None) -> float:
        """The one number of a tensor; ``said`` is what the config has in its place."""
        value = self._number(name)
        if value == 0.0 or not math.isfinite(value):
            self.problems.add("bad-alpha", f"{name} ({value})")
        elif said is not None and not math.isclose(value, said, rel_tol=_AGREE):
            self.problems.add("config-contradicts", f"{name} ({value:g}, the config says {said:g})")
        return value

    def _number(self, name: str) -> float:
        return float(self.tensor(name).reshape(()).to(torch.float64))


def _structure(whole: Callable[[], Any], turned: bool, rows: tuple[int, int] | None) -> Loaded:
    """What the weight gains: some rows of a structure, or of its transpose."""
    value: Loaded = whole()
    value = value.transposed() if turned else value
    return value if rows is None else value.rows(*rows)


def _operator(whole: Callable[[], Any], turned: bool, rows: tuple[int, int] | None) -> Operator:
    """What is made of the weight: by some rows of an operator, or by one on its transpose."""
    value: Operator = Turned(whole()) if turned else whole()
    return value if rows is None else value.rows(*rows)
