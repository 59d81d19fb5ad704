"""Checkpoints whose weights are not plain numbers: which scales belong to which weight.

Scaled fp8 keeps a weight as ``stored * scale``: one scale for the tensor, for each row, or
for each block. Names: ComfyUI's ``scale_weight`` (with ``scale_input`` and the sentinel
``scaled_fp8``) and its newer ``weight_scale`` (with ``input_scale`` and ``comfy_quant``),
kohya-ss/musubi-tuner 30c658c ``scale_weight`` of ``[1]``, ``[O, 1]`` or ``[O, blocks, 1]``,
and transformers' fine-grained fp8, ``weight_scale_inv`` for blocks of 128 x 128 (which is
multiplied all the same).

What is quantised in another way is named, so that a merge can say why it refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from lorapipe.errors import InputError
from lorapipe.weights.specs import Scales, TensorSpec

__all__ = ["Quantisation", "quantisation"]

_FP8 = frozenset({"F8_E4M3", "F8_E5M2"})

_SCALES = (".scale_weight", ".weight_scale", ".weight_scale_inv")

_FINE_GRAINED = 128
"""Rows and columns of a block of transformers' fine-grained fp8."""

_COMPANIONS = (".scale_input", ".input_scale", ".comfy_quant")
"""Of a scaled weight: about activations, or about the format itself."""

_SENTINEL = "scaled_fp8"

_OTHERS: Mapping[str, tuple[str, ...]] = {
    "SVDQuant (Nunchaku)": (".wscales", ".smooth_factor", ".smooth_factor_orig", ".proj_down", ".wtscale"),
    "GPTQ or AWQ": (".qweight", ".qzeros", ".g_idx"),
    "bitsandbytes 4-bit": (
        ".weight.absmax", ".weight.quant_map", ".weight.quant_state.bitsandbytes__nf4",
        ".weight.quant_state.bitsandbytes__fp4", ".weight.nested_absmax",
    ),
    "bitsandbytes int8": (".SCB", ".weight_format"),
    "NVFP4": (".weight_scale_2",),
    "compressed-tensors": (".weight_packed", ".weight_shape"),
}  # fmt: skip
"""Formats by the tensors that a module has in them; the first that fits names the module's."""


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How a checkpoint's weights are quantised.

    ``scales`` maps the file's key of a scaled fp8 weight to its scales; ``companions`` are
    tensors that go when the weights become plain numbers. ``frozen`` maps the key that the
    weight has in a plain checkpoint to the name of a format into which nothing can be merged.
    """

    scales: Mapping[str, Scales] = field(default_factory=dict)
    companions: frozenset[str] = frozenset()
    frozen: Mapping[str, str] = field(default_factory=dict)


def quantisation(tensors: Mapping[str, TensorSpec], where: str | None = None) -> Quantisation:
    """What the names, dtypes and shapes of a checkpoint's tensors say.

    Raises :class:`InputError` ``scales-do-not-fit`` for scales of a shape that no block of
    their weight explains.
    """
    frozen = dict(_frozen(tensors))
    scales: dict[str, Scales] = {}
    for name, spec in tensors.items():
        suffix = next((s for s in _SCALES if name.endswith(s)), None)
        weight = "" if suffix is None else name[: -len(suffix)] + ".weight"
        if suffix is None or weight not in tensors or weight in frozen:
            continue
        if tensors[weight].dtype not in _FP8:
            if tensors[weight].dtype in ("I8", "U8"):
                frozen[weight] = f"scaled {tensors[weight].dtype}"
            continue
        block = _block(tensors[weight].shape, spec.shape, fine=suffix == ".weight_scale_inv")
        if block is None:
            shapes = f"{list(spec.shape)} for a weight {list(tensors[weight].shape)}"
            raise InputError(
                "scales-do-not-fit",
                f"the fp8 scales {name} are {shapes}",
                hint="the file is damaged, or of a format that is not known",
                where=where,
            )
        scales[weight] = Scales(name, block)
    return Quantisation(scales, frozenset(_companions(tensors, scales)), frozen)


def _frozen(tensors: Mapping[str, TensorSpec]) -> Iterator[tuple[str, str]]:
    every = tuple(suffix for suffixes in _OTHERS.values() for suffix in suffixes)
    names = [name for name in tensors if name.endswith(every)]
    # The last title of a weight stays, and a file has its tensors in any order: so formats in reverse.
    for title, suffixes in reversed(tuple(_OTHERS.items())):
        for name in names:
            suffix = next((s for s in suffixes if name.endswith(s)), None)
            if suffix is not None:
                yield name[: -len(suffix)] + ".weight", title


def _companions(tensors: Mapping[str, TensorSpec], scales: Mapping[str, Scales]) -> Iterator[str]:
    yield from (found.key for found in scales.values())
    for weight in scales:
        stem = weight.removesuffix(".weight")
        yield from (stem + suffix for suffix in _COMPANIONS if stem + suffix in tensors)
    for name in tensors:
        if scales and (name == _SENTINEL or name.endswith("." + _SENTINEL)):
            yield name


def _block(weight: tuple[int, ...], scales: tuple[int, ...], *, fine: bool) -> tuple[int, int] | None:
    """Rows and columns that share a scale in a weight ``[O, I*k]``; ``None`` if nothing fits."""
    if not weight or not prod(weight):
        return None
    rows, columns = weight[0], prod(weight[1:])
    if prod(scales) == 1:
        return rows, columns
    if fine:
        size = _FINE_GRAINED
        return (size, size) if scales == (-(-rows // size), -(-columns // size)) else None
    if prod(scales) == rows and scales[0] == rows:
        return 1, columns
    if len(scales) == 3 and scales[0] == rows and scales[2] == 1 and columns % scales[1] == 0:
        return 1, columns // scales[1]
    return None
