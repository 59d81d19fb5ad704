"""What a saved file will hold, from specs alone: names, shapes, dtypes."""

from __future__ import annotations

from lorapipe.errors import RecipeError
from lorapipe.weights.specs import DTYPES, FLOATING, AdapterSpec, CheckpointSpec, ModuleSpec, TensorSpec

__all__ = ["ALPHA", "DOWN", "UP", "saved_checkpoint_specs", "saved_dtype", "saved_specs"]

ALPHA, DOWN, UP = ".alpha", ".lora_down.weight", ".lora_up.weight"
"""Kohya's suffixes of a module's three tensors."""


def saved_dtype(spec: TensorSpec, dtype: str | None) -> str:
    """The dtype a tensor is written in: ``dtype`` casts floating tensors, ``None`` keeps.

    An eight-bit one casts matrices and kernels only: biases and norms would lose more than
    their few bytes are worth.
    """
    if dtype is None or spec.dtype not in FLOATING:
        return spec.dtype
    vector = len([size for size in spec.shape if size != 1]) < 2
    return spec.dtype if vector and DTYPES[dtype] == 1 else dtype


def saved_checkpoint_specs(spec: CheckpointSpec, dtype: str | None = None) -> dict[str, TensorSpec]:
    """The tensors of a saved checkpoint, in the file's own order.

    With a ``dtype`` scaled fp8 weights become plain numbers, and their scales go.
    """
    return {
        key: TensorSpec(saved_dtype(t, dtype), t.shape)
        for key, t in spec.tensors.items()
        if dtype is None or key not in spec.companions
    }


def saved_specs(spec: AdapterSpec, dtype: str | None = None) -> dict[str, TensorSpec]:
    """The tensors of a saved adapter by name: alpha, down and up of each module, extras.

    ``dtype`` is a safetensors name for all floating tensors, or ``None`` to keep: the
    factors' common dtype, and each extra's own. Alphas are float32 whatever it is, since
    half types corrupt them (bf16 makes 300 of 301).

    Raises :class:`RecipeError` ``no-spelling`` for rows that the files' naming has no name
    for, and ``name-clash`` when two tensors would have one name.
    """
    saved: dict[str, TensorSpec] = {}
    for module, known in spec.modules.items():
        if not known.spelling.stem:
            raise RecipeError(
                "no-spelling",
                "no LoRA has a name for exactly these rows of a fused weight",
                module=str(module),
                hint="join LoRAs that split the weight alike, or merge into a checkpoint",
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
        out, into = into, out
    return {
        stem + ALPHA: TensorSpec("F32", ()),
        stem + DOWN: TensorSpec(dtype, (rank, into, *kernel)),
        stem + UP: TensorSpec(dtype, (out, rank, *(1 for _ in kernel))),
    }


def _put(saved: dict[str, TensorSpec], name: str, tensor: TensorSpec, module: str | None) -> None:
    if name in saved:
        raise RecipeError("name-clash", f"two tensors would be saved as '{name}'", module=module)
    saved[name] = tensor
