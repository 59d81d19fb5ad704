"""Bytes to tensors and back, and the one rounding that a computed value gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite, nextafter

import numpy as np
import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.specs import TensorSpec

__all__ = [
    "NAMES",
    "TORCH_DTYPES",
    "Rounded",
    "all_finite",
    "from_bytes",
    "moved",
    "round_to",
    "to_bytes",
    "torch_dtype",
]

TORCH_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Torch's dtype by safetensors' name."""

NAMES: Mapping[torch.dtype, str] = {dtype: name for name, dtype in TORCH_DTYPES.items()}
"""Safetensors' name by torch's dtype."""

_TIE_BITS: Mapping[torch.dtype, int] = {
    torch.float16: (1 << 12) - 1,
    torch.bfloat16: (1 << 15) - 1,
    torch.float8_e4m3fn: (1 << 19) - 1,
    torch.float8_e5m2: (1 << 20) - 1,
}
"""Low bits of a float32 that are all zero when it lies halfway between two target values."""

_OVERFLOW: Mapping[torch.dtype, float] = {
    torch.float64: inf,
    torch.float32: (2 - 2**-24) * 2.0**127,
    torch.bfloat16: (2 - 2**-8) * 2.0**127,
    torch.float16: 65520.0,
    torch.float8_e5m2: 61440.0,
    torch.float8_e4m3fn: nextafter(464.0, inf),  # 464 is a tie whose even neighbour, 448, is finite
}
"""The least magnitude that rounds to no finite value (torch saturates fp8 in silence)."""


_NOT_FINITE: Mapping[torch.dtype, int] = {
    torch.float8_e5m2: 0x1F << 2,
    torch.float8_e4m3fn: 0x7F,  # no Inf, one NaN
}
"""The least bits, but for the sign, of an eight-bit value that is not finite."""

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""An integer type by its bytes."""


def torch_dtype(compute: str) -> torch.dtype:
    """The dtype of arithmetic by the recipe's word: ``float64`` or ``float32``."""
    return {"float64": torch.float64, "float32": torch.float32}[compute]


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """A tensor in its target dtype, and how many non-zero values became zero."""

    tensor: Tensor
    underflowed: int


def from_bytes(buffer: bytearray, spec: TensorSpec, device: str = "cpu") -> Tensor:
    """The tensor whose little-endian bytes ``buffer`` holds; on the CPU it shares them."""
    if len(buffer) != spec.nbytes:
        raise ValueError(f"{len(buffer)} bytes do not make {spec}")
    dtype = TORCH_DTYPES[spec.dtype]
    if not spec.size:
        return torch.empty(spec.shape, dtype=dtype, device=device)
    return moved(torch.frombuffer(buffer, dtype=dtype).reshape(spec.shape), device)


def moved(tensor: Tensor, device: str) -> Tensor:
    """The tensor on ``device``; the same one where it is there.

    To CUDA and back it goes through page-locked memory, on the thread's own stream
    (:mod:`~lorapipe.weights.checkpoints.lanes`). What goes up is only queued: torch's pool keeps the
    staging memory until the copy is done. What comes down is there when this returns.
    """
    if device.startswith("cuda") and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    if device == "cpu" and tensor.device.type == "cuda":
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        torch.cuda.current_stream(tensor.device).synchronize()
        return host
    return tensor.to(device)


def to_bytes(tensor: Tensor) -> memoryview:
    """The tensor's little-endian bytes in row-major order, as a flat view of bytes."""
    # One element counts as contiguous whatever its stride, which view() then refuses.
    flat = moved(tensor.detach(), "cpu").contiguous().as_strided((tensor.numel(),), (1,))
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def all_finite(tensor: Tensor) -> bool:
    """Whether a floating tensor is free of NaN and Inf; eight-bit ones, too, which torch cannot tell.

    The least and the greatest value say it, of which NaN is both: torch's ``isfinite`` takes 10 times
    as long.
    """
    if not tensor.numel():
        return True
    if tensor.dtype in _NOT_FINITE:
        return int((tensor.contiguous().view(torch.int8) & 0x7F).max()) < _NOT_FINITE[tensor.dtype]
    return all(isfinite(float(extreme)) for extreme in torch.aminmax(tensor))


def round_to(values: Tensor, dtype: str, *, pass_non_finite: bool = False) -> Rounded:
    """Round every value once, to the nearest value of ``dtype``, ties to even.

    ``values`` are float64 or float32 where computed; a narrower tensor is taken as it is.
    NaN and Inf are an error unless ``pass_non_finite`` (a cast of a tensor on which
    nothing was computed keeps them).

    Raises :class:`BuildError` ``not-finite``, or ``overflow`` when a finite value has no
    finite neighbour in ``dtype``.

    *Numerics*: torch converts float64 to the half types by way of float32: two roundings,
    wrong for one value in some 2**29 / 2**12. Here those values are found and rounded again.
    """
    target = TORCH_DTYPES[dtype]
    if not values.numel():
        return Rounded(values.to(target), 0)
    wide = values if values.dtype in (torch.float64, torch.float32) else values.to(torch.float32)
    # What is rounded to a half type goes through float32 anyway; checking that is half the work.
    single = wide.to(torch.float32) if target in _TIE_BITS else wide
    _check_range(wide, single, dtype, pass_non_finite=pass_non_finite)
    if values.dtype == target:
        return Rounded(values, 0)
    rounded = _nearest(wide, single, target)
    return Rounded(rounded, _vanished(wide, rounded))


def _check_range(wide: Tensor, single: Tensor, dtype: str, *, pass_non_finite: bool) -> None:
    """Refuse what :func:`round_to` refuses; ``single`` is ``wide``, or it in float32."""
    limit = _OVERFLOW[TORCH_DTYPES[dtype]]
    low, high = (float(extreme) for extreme in torch.aminmax(single))
    if max(-low, high) < 0.999 * limit and isfinite(low) and isfinite(high):
        return
    # So close to the limit, or beyond float32, only the values themselves can tell.
    finite = torch.isfinite(wide)
    if not pass_non_finite and not bool(finite.all()):
        raise BuildError("not-finite", "NaN or Inf in what is computed")
    largest = float(torch.where(finite, wide, 0.0).abs().amax())
    if largest >= limit:
        raise BuildError(
            "overflow",
            f"{largest:.4g} is beyond the range of {dtype}",
            hint="save with dtype: bf16, whose range is that of fp32",
        )


def _nearest(wide: Tensor, single: Tensor, target: torch.dtype) -> Tensor:
    """``wide`` in ``target``, rounded once; ``single`` is ``wide`` in float32 for a half type."""
    if wide.dtype != torch.float64 or target not in _TIE_BITS:
        return wide.to(target)
    flat = single.reshape(-1)
    rounded = flat.to(target)
    # Going through float32 errs only where it lands on a tie that the value itself is not.
    tied = _where_zero(flat.view(torch.int32), _TIE_BITS[target])
    exact = wide.reshape(-1)[tied]
    inexact = flat[tied].to(torch.float64) != exact
    tied, exact = tied[inexact], exact[inexact]
    if tied.numel():
        rounded[tied] = _to_odd(exact).to(target)
    return rounded.reshape(wide.shape)


def _where_zero(bits: Tensor, mask: int) -> Tensor:
    """Where none of the masked bits is set: ``[n]`` indices. On the CPU numpy is 2.7 times as fast."""
    if bits.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero((bits.numpy() & mask) == 0))
    return ((bits & mask) == 0).nonzero().reshape(-1)


def _to_odd(exact: Tensor) -> Tensor:
    """Inexact float64 values as float32, cut towards zero with the last bit set.

    *Source*: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved
    algorithms using rounding to odd", IEEE Trans. Computers 57(4), 2008, theorem 1:
    rounding to odd first makes the second rounding correct.
    """
    single = exact.to(torch.float32)
    beyond = single.to(torch.float64).abs() > exact.abs()
    bits = single.view(torch.int32) - beyond.to(torch.int32)
    return (bits | 1).view(torch.float32)


def _vanished(wide: Tensor, rounded: Tensor) -> int:
    """How many values that are not zero became 0 or -0: those of which no bit but the sign is set."""
    bits = rounded.contiguous().view(_BITS[rounded.element_size()]).reshape(-1)
    if bits.device.type != "cpu":
        return int(torch.count_nonzero(wide.reshape(-1)[bits << 1 == 0]))
    zero = bits.numpy() << 1 == 0
    # Few values are zero as a rule: only those are looked at in their full width.
    return int(np.count_nonzero(wide.reshape(-1).numpy()[zero])) if zero.any() else 0
