"""A file's modules when their data have been seen: true ranks, alphas, and who makes the tensors.

A plain module's terms are stacked in their order. If all magnitudes ``|c|`` are equal, the
factors' values are those of the sources (cast only where the dtype differs), signs on
``up``, ``alpha = |c| * R``; else ``sqrt(|c|)`` goes on both factors, in float64 and rounded
once, signs on ``up``, ``alpha = R``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import frexp, isfinite

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.borders import inside
from lorapipe.weights.filing.refiled import refiled
from lorapipe.weights.filing.rewritten import rewritten
from lorapipe.weights.inference.filed import ALPHA, DOWN, UP, FileModule
from lorapipe.weights.specs import FLOATING, TensorSpec
from lorapipe.weights.structures.delta import Delta
from lorapipe.weights.structures.structure import Written
from lorapipe.weights.tensors import TORCH_DTYPES, Rounded, round_to

__all__ = ["Settled", "alpha_of", "settle"]

_DIGITS: Mapping[str, int] = {
    "F64": 53, "F32": 24, "F16": 11, "BF16": 8, "F8_E4M3": 4, "F8_E5M2": 3,
}  # fmt: skip
"""Binary digits of a significand."""


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """A file's module with its true rank, its alpha, and a maker of its tensors.

    ``alpha`` is what the file says or, if its words have none, what something beside the
    tensors has to say: a factor ``alpha / rank``; ``None`` of a format without alpha.
    """

    module: FileModule
    alpha: float | None
    make: Callable[[Mapping[str, TensorSpec]], dict[str, Rounded]]
    """From the specs of some of the tensors by role to the tensors."""

    @property
    def unfolded(self) -> bool:
        """Whether its words are for factors that hold the coefficient, and these could not take it."""
        return self.module.form is None and self.module.words.folds and self.strength != 1.0

    @property
    def strength(self) -> float:
        """What a reader multiplies the product of the factors with."""
        return 1.0 if self.alpha is None else self.alpha / self.module.rank


def settle(
    module: FileModule,
    adapter: Adapter,
    dtype: str | None = None,
    strength: float = 1.0,
    *,
    fold: bool = True,
) -> Settled:
    """Look at the data as far as a file's header depends on them.

    Plain modules of one part are not read, unless their coefficient is to be folded. What a
    module of another format holds is divided by ``strength``: its reader will multiply it.
    Without ``fold`` a coefficient stays beside the factors, whatever the module's words.

    Raises :class:`BuildError` ``alpha-out-of-range``, ``not-one-module`` or
    ``strength-not-kept``, the module named.
    """
    with inside(module.sources[0]):
        if module.form is not None:
            return _settled_form(module, adapter, strength)
        delta = refiled(module, adapter)
        known = replace(module, rank=delta.rank, bounded=False)
        alpha = alpha_of(delta)
        folded = None
        if fold and module.words.folds and alpha != delta.rank:
            folded = _foldable(delta, dtype or adapter.spec.dtype)
        make = partial(_plain, known, delta, None if folded else alpha, folded)
        return Settled(known, float(delta.rank) if folded else alpha, make)


def alpha_of(delta: Delta) -> float:
    """The alpha that a saved delta will have, from its coefficients alone.

    ``|c| * R`` where all magnitudes are equal, else ``R``; rounded to float32.

    Raises :class:`BuildError` ``alpha-out-of-range`` when that is no positive float32.
    """
    magnitude = delta.magnitude
    alpha = (1.0 if magnitude is None else magnitude) * delta.rank
    single = _single(alpha)
    if not (single > 0.0 and isfinite(single)):
        raise BuildError("alpha-out-of-range", f"alpha would be {alpha:g}, which is no positive fp32 number")
    return single


def _single(value: float) -> float:
    """The nearest float32."""
    try:
        (single,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return float("inf")
    return float(single)


def _foldable(delta: Delta, dtype: str) -> str | None:
    """The factor that may be multiplied by the coefficient without another product than with an alpha.

    That is where ``c * x`` is a number of the saved dtype for all its ``x``, as these are saved:
    a power of two that leaves no number too small, most often.
    """
    folded = delta.folded(torch.float64)
    c = folded.coefficient
    significand = int(frexp(c)[0] * 2**53)
    digits = 53 - ((significand & -significand).bit_length() - 1)
    if digits > 1 and digits + _DIGITS[dtype] > 53:
        return None
    for role, factor in ((UP, folded.factors.up), (DOWN, folded.factors.down)):
        saved = round_to(factor, dtype).tensor.to(torch.float64)
        try:
            scaled = round_to(saved * c, dtype).tensor.to(torch.float64)
        except BuildError:
            continue
        if torch.equal(scaled, saved * c):
            return role
    return None


def _plain(
    module: FileModule,
    delta: Delta,
    alpha: float | None,
    folded: str | None,
    specs: Mapping[str, TensorSpec],
) -> dict[str, Rounded]:
    found: dict[str, Rounded] = {}
    if ALPHA in specs:
        found[ALPHA] = Rounded(torch.tensor(alpha, dtype=TORCH_DTYPES[specs[ALPHA].dtype]), 0)
    if not specs.keys() - found.keys():
        return found
    with inside(module.sources[0]):
        product = delta.folded(torch.float64)
        for role, factor in ((UP, product.factors.up), (DOWN, product.factors.down)):
            if role in specs:
                found[role] = _rounded(factor, specs[role])
            if role in specs and role == folded:
                scaled = found[role].tensor.to(torch.float64) * product.coefficient
                found[role] = replace(found[role], tensor=scaled.to(TORCH_DTYPES[specs[role].dtype]))
    return found


def _settled_form(module: FileModule, adapter: Adapter, strength: float) -> Settled:
    assert module.form is not None
    alpha = None
    if not module.words.alpha or any(role == ALPHA for role, _ in module.form.tensors):
        found = rewritten(module, adapter).alpha
        alpha = None if found is None else _single(found)
    return Settled(replace(module, bounded=False), alpha, partial(_own_format, module, adapter, strength))


def _own_format(
    module: FileModule, adapter: Adapter, strength: float, specs: Mapping[str, TensorSpec]
) -> dict[str, Rounded]:
    with inside(module.sources[0]):
        written: Written = rewritten(module, adapter)
        # An alpha that counts for nothing may be anything, and infinite where it was kept in fp16.
        alpha = torch.tensor(1.0 if written.alpha is None else written.alpha, dtype=torch.float32)
        held = written.tensors
        if strength != 1.0:
            held = {role: tensor.to(torch.float64) / strength for role, tensor in held.items()}
        return {
            role: Rounded(alpha, 0) if role == ALPHA else _rounded(held[role], spec)
            for role, spec in specs.items()
        }


def _rounded(values: Tensor, spec: TensorSpec) -> Rounded:
    """The values in the dtype and shape of the file."""
    if spec.dtype not in FLOATING:
        return Rounded(values.to(TORCH_DTYPES[spec.dtype]).reshape(spec.shape), 0)
    rounded = round_to(values, spec.dtype)
    return Rounded(rounded.tensor.reshape(spec.shape), rounded.underflowed)
