"""How a delta becomes the three tensors of a saved module.

Deviations from kohya-ss/sd-scripts 48d368f, which gets sums of LoRAs wrong:

1. A coefficient acts once: alone in alpha, or as its square root on both factors
   (kohya puts a ratio on both, so that 0.5 comes out as 0.25).
2. alpha follows the rank of the result (kohya's ``--concat`` keeps the first file's, so
   that two LoRAs at full strength come out at half).
3. alpha is float32 whatever the dtype of the factors.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import isfinite

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.adapter import Adapter
from lorapipe.weights.borders import inside
from lorapipe.weights.delta import Delta
from lorapipe.weights.output import ALPHA, DOWN, UP, saved_specs
from lorapipe.weights.specs import ModuleId, TensorSpec
from lorapipe.weights.tensors import TORCH_DTYPES, Rounded, round_to

__all__ = ["SavedTensor", "alpha_of", "alphas", "saved_tensors"]


@dataclass(frozen=True, slots=True, eq=False)
class SavedTensor:
    """A tensor to be written, made when asked for."""

    name: str
    spec: TensorSpec
    make: Callable[[], Rounded]


def alpha_of(delta: Delta) -> float:
    """The alpha that a saved delta will have, from its coefficients alone.

    ``|c| * R`` where all magnitudes are equal, else ``R``; rounded to float32.

    Raises :class:`BuildError` ``alpha-out-of-range`` when that is no positive float32.
    """
    magnitude = delta.magnitude
    alpha = (1.0 if magnitude is None else magnitude) * delta.rank
    try:
        (single,) = struct.unpack("<f", struct.pack("<f", alpha))
    except OverflowError:
        single = float("inf")
    if not (single > 0.0 and isfinite(single)):
        raise BuildError("alpha-out-of-range", f"alpha would be {alpha:g}, which is no positive fp32 number")
    return float(single)


def alphas(adapter: Adapter) -> dict[ModuleId, float]:
    """Each module's alpha as :func:`alpha_of` has it, the module named in errors."""
    found: dict[ModuleId, float] = {}
    for module in adapter.modules:
        with inside(module):
            found[module] = alpha_of(adapter.delta(module))
    return found


def _up(delta: Delta, dtype: str) -> Rounded:
    rounded = round_to(delta.folded(torch.float64).factors.up, dtype)
    shape = (delta.shape[0], delta.rank, *(1 for _ in delta.shape[2:]))
    return Rounded(rounded.tensor.reshape(shape), rounded.underflowed)


def _down(delta: Delta, dtype: str) -> Rounded:
    rounded = round_to(delta.folded(torch.float64).factors.down, dtype)
    return Rounded(rounded.tensor.reshape(delta.rank, *delta.shape[1:]), rounded.underflowed)


def saved_tensors(adapter: Adapter, dtype: str | None = None) -> Iterator[SavedTensor]:
    """The tensors of a saved adapter, as :func:`~.output.saved_specs` has them, made lazily.

    A module is ``alpha / R * up @ down`` to its loader: ``up: [O, R]`` and ``down: [R, I]``,
    or ``[O, R, 1, 1]`` and ``[R, I, kh, kw]``. Its terms are stacked in their order. If all
    magnitudes ``|c|`` are equal, the factors' values are those of the sources (cast only
    where the dtype differs), signs on ``up``, ``alpha = |c| * R``; else ``sqrt(|c|)`` goes on
    both factors, in float64 and rounded once, signs on ``up``, ``alpha = R``.

    ``dtype`` is a safetensors name or ``None`` to keep. Extras are cast, not computed: NaN
    in them is theirs. ``make`` raises :class:`BuildError` ``overflow``, ``not-finite`` or
    ``alpha-out-of-range``, the module named.
    """
    specs = saved_specs(adapter.spec, dtype)
    for module, known in adapter.spec.modules.items():
        delta = adapter.delta(module)
        delta = delta.transposed() if known.spelling.transposed else delta
        for suffix, make in ((ALPHA, _alpha), (DOWN, _down), (UP, _up)):
            name = known.spelling.stem + suffix
            yield SavedTensor(name, specs[name], partial(_made, make, delta, specs[name].dtype, module))
    for name, extra in adapter.extras.items():
        yield SavedTensor(name, specs[name], partial(_cast, extra, specs[name].dtype, name))


def _alpha(delta: Delta, dtype: str) -> Rounded:
    return Rounded(torch.tensor(alpha_of(delta), dtype=TORCH_DTYPES[dtype]), 0)


def _made(make: Callable[[Delta, str], Rounded], delta: Delta, dtype: str, module: ModuleId) -> Rounded:
    with inside(module):
        return make(delta, dtype)


def _cast(extra: Tensor, dtype: str, name: str) -> Rounded:
    if extra.dtype == TORCH_DTYPES[dtype]:
        return Rounded(extra, 0)
    with inside(name):
        return round_to(extra, dtype, pass_non_finite=True)
