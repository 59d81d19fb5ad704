"""What a saved file will hold, from specs alone: names, shapes, dtypes, metadata."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

from lorapipe.errors import RecipeError
from lorapipe.weights.inference import LOADER_METADATA
from lorapipe.weights.specs import (
    FLOATING,
    AdapterSpec,
    CheckpointSpec,
    ModuleId,
    ModuleSpec,
    TensorSpec,
    canonical_shape,
)

__all__ = [
    "ALPHA",
    "DOWN",
    "UP",
    "network_metadata",
    "saved_checkpoint_specs",
    "saved_dtype",
    "saved_specs",
]

ALPHA, DOWN, UP = ".alpha", ".lora_down.weight", ".lora_up.weight"
"""Kohya's suffixes of a module's three tensors."""

_NETWORK = frozenset({"ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args"})
_STALE = ("sshs_", "modelspec.hash")
"""Keys that speak of the bytes of another file."""


def saved_dtype(spec: TensorSpec, dtype: str | None) -> str:
    """The dtype a tensor is written in: ``dtype`` casts floating tensors, ``None`` keeps."""
    return dtype if dtype is not None and spec.dtype in FLOATING else spec.dtype


def saved_checkpoint_specs(spec: CheckpointSpec, dtype: str | None = None) -> dict[str, TensorSpec]:
    """The tensors of a saved checkpoint, in the file's own order."""
    return {key: TensorSpec(saved_dtype(t, dtype), t.shape) for key, t in spec.tensors.items()}


def saved_specs(spec: AdapterSpec, dtype: str | None = None) -> dict[str, TensorSpec]:
    """The tensors of a saved adapter by name: alpha, down and up of each module, extras.

    ``dtype`` is a safetensors name for all floating tensors, or ``None`` to keep: the
    factors' common dtype, and each extra's own. Alphas are float32 whatever it is, since
    half types corrupt them (bf16 makes 300 of 301).

    Raises :class:`RecipeError` ``no-spelling`` for rows that the file's naming has no name
    for, and ``name-clash`` when two tensors would have one name.
    """
    saved: dict[str, TensorSpec] = {}
    for module, known in spec.modules.items():
        if not known.spelling.stem:
            raise RecipeError(
                "no-spelling",
                "no LoRA names exactly these rows of a fused weight, so they cannot be saved as a module",
                module=str(module),
                hint="give terms that split the weight alike, or merge into a checkpoint",
            )
        for name, tensor in _module_specs(known, dtype or spec.dtype).items():
            _put(saved, name, tensor, str(module))
    for name, extra in spec.extras.items():
        _put(saved, name, TensorSpec(saved_dtype(extra, dtype), extra.shape), None)
    return saved


def _module_specs(known: ModuleSpec, dtype: str) -> dict[str, TensorSpec]:
    stem, rank = known.spelling.stem, known.rank
    out, into, *kernel = known.shape
    if known.spelling.transposed:
        out, into, kernel = into, out, []
    return {
        stem + ALPHA: TensorSpec("F32", ()),
        stem + DOWN: TensorSpec(dtype, (rank, into, *kernel)),
        stem + UP: TensorSpec(dtype, (out, rank, *[1] * len(kernel))),
    }


def _put(saved: dict[str, TensorSpec], name: str, tensor: TensorSpec, module: str | None) -> None:
    if name in saved:
        raise RecipeError("name-clash", f"two tensors would be saved as '{name}'", module=module)
    saved[name] = tensor


def network_metadata(spec: AdapterSpec, alphas: Mapping[ModuleId, float]) -> dict[str, str]:
    """The metadata of a saved adapter: the network keys as they now are, the rest kept.

    ``alphas`` are the values that the file will hold. ``ss_network_dim`` and ``_alpha``
    are those of linear modules and 1x1 kernels, ``conv_dim`` and ``conv_alpha`` in
    ``ss_network_args`` those of larger kernels; ``Dynamic`` where modules differ. Hashes
    of the old bytes go. A hidden adapter keeps only what a loader needs.

    *Source*: the keys are those that kohya-ss/sd-scripts 48d368f writes when it trains.
    """
    kept = {
        key: value
        for key, value in spec.metadata.items()
        if key not in _NETWORK and not key.startswith(_STALE) and (not spec.hidden or key in LOADER_METADATA)
    }
    larger = [m for m, known in spec.modules.items() if len(canonical_shape(known.shape)) > 2]
    plain = [m for m in spec.modules if m not in set(larger)]
    ranks = {m: str(known.rank) for m, known in spec.modules.items()}
    texts = {m: _shortest(alpha) for m, alpha in alphas.items()}
    kept["ss_network_module"] = "networks.lora"
    kept["ss_network_dim"] = _common([ranks[m] for m in plain or larger])
    kept["ss_network_alpha"] = _common([texts[m] for m in plain or larger])
    if larger:
        args = {
            "conv_dim": _common([ranks[m] for m in larger]),
            "conv_alpha": _common([texts[m] for m in larger]),
        }
        kept["ss_network_args"] = json.dumps(args)
    return kept


def _common(values: list[str]) -> str:
    return values[0] if len(set(values)) == 1 else "Dynamic"


def _shortest(value: float) -> str:
    """The shortest decimal that is the same float32: ``5.6``, not ``5.599999904632568``."""
    bits = struct.pack("<f", value)
    texts = (f"{value:.{digits}g}" for digits in range(1, 10))
    return next(text for text in texts if struct.pack("<f", float(text)) == bits)
