"""What a saved file will hold, from specs alone: names, shapes, dtypes."""

from __future__ import annotations

from collections.abc import Sequence

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.filed import ALPHA, FileModule, own_names
from lorapipe.weights.specs import DTYPES, FLOATING, AdapterSpec, CheckpointSpec, TensorSpec

__all__ = ["module_specs", "saved_checkpoint_specs", "saved_dtype", "saved_specs"]


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


def saved_specs(
    spec: AdapterSpec, dtype: str | None = None, modules: Sequence[FileModule] | None = None
) -> dict[str, TensorSpec]:
    """The tensors of a saved adapter by name: those of each module, then the extras.

    ``dtype`` is a safetensors name for all floating tensors, or ``None`` to keep: the common
    one of all factors, its own of each other tensor. Alphas are float32 whatever it is, since
    half types corrupt them (bf16 makes 300 of 301). ``modules`` are those of the file, by
    default the adapter's own under their own stems.

    Raises :class:`RecipeError` ``name-clash`` when two tensors would have one name.
    """
    saved: dict[str, TensorSpec] = {}
    for module in own_names(spec) if modules is None else modules:
        for role, tensor in module_specs(module, spec.dtype, dtype).items():
            _put(saved, module.stem + module.words.suffix(role), tensor, str(module.sources[0]))
    for name, extra in spec.extras.items():
        _put(saved, name, TensorSpec(saved_dtype(extra, dtype), extra.shape), None)
    return saved


def module_specs(module: FileModule, common: str, dtype: str | None) -> dict[str, TensorSpec]:
    """A module's tensors by role, in the dtypes in which they are saved; see :func:`saved_specs`."""
    found = {}
    for role, tensor in module.tensors(dtype or common).items():
        cast = "F32" if role == ALPHA else saved_dtype(tensor, dtype)
        found[role] = TensorSpec(tensor.dtype if module.form is None else cast, tensor.shape)
    return found


def _put(saved: dict[str, TensorSpec], name: str, tensor: TensorSpec, module: str | None) -> None:
    if name in saved:
        raise RecipeError("name-clash", f"two tensors would be saved as '{name}'", module=module)
    saved[name] = tensor
