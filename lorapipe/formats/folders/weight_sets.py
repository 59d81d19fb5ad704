"""Sets of weights side by side in a folder, told by the names of files, and the one to take."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from lorapipe.errors import InputError
from lorapipe.formats.folders.shards import INDEX, SHARD
from lorapipe.remote.url import Location

__all__ = ["WeightSet", "choose", "holds_weights", "is_weights", "sets_in"]

_STEMS = {
    "model": "model",
    "pytorch_model": "model",
    "diffusion_pytorch_model": "diffusion_pytorch_model",
    "adapter_model": "adapter_model",
    "pytorch_lora_weights": "pytorch_lora_weights",
}
"""What transformers, diffusers and PEFT call weights, and what they call them in safetensors."""

_FILE = re.compile(r"(?P<stem>.+)\.(?P<suffix>safetensors|ckpt|pt|bin)", re.IGNORECASE)
_VARIANT = re.compile(rf"(?P<stem>{'|'.join(_STEMS)})\.(?P<variant>[^.]+)")

_OTHERS = (".pth", ".msgpack", ".h5", ".onnx", ".onnx_data", ".ot", ".gguf", ".tflite", ".npz", ".pdparams")
"""Endings of weights that other programs read."""

_NO_MODEL = re.compile(
    r"(?:training_args|optimizer|scheduler|scaler|rng_state.*|random_states.*)\.(?:bin|pt|ckpt)"
)
"""What trainers leave beside a model."""


@dataclass(frozen=True, slots=True)
class WeightSet:
    """Weights of one model: a file, or the index of several.

    ``stem`` is the name before the suffix, as safetensors has it; ``known`` says that it is one
    of those that programs look for. ``variant`` is ``fp16``, ``non_ema``, or ``None``.
    """

    file: str
    stem: str
    suffix: str
    variant: str | None = None
    index: bool = False
    known: bool = False


def sets_in(names: Iterable[str]) -> list[WeightSet]:
    """The sets of weights among the files of a folder, in the order of names; shards are in none."""
    found = []
    for name in sorted(names):
        index, file = INDEX.fullmatch(name), _FILE.fullmatch(name)
        if index is not None:
            variant = index["late"] or index["early"]
            found.append(_set(name, index["stem"], index["suffix"], variant, index=True))
        elif file is not None and not SHARD.fullmatch(file["stem"]) and not _NO_MODEL.fullmatch(name):
            split = _VARIANT.fullmatch(file["stem"])
            stem, variant = (split["stem"], split["variant"]) if split else (file["stem"], None)
            found.append(_set(name, stem, file["suffix"].lower(), variant, index=False))
    return found


def _set(name: str, stem: str, suffix: str, variant: str | None, *, index: bool) -> WeightSet:
    return WeightSet(name, _STEMS.get(stem, stem), suffix, variant, index, stem in _STEMS)


def choose(folder: Location, sets: Collection[WeightSet], variant: str | None) -> WeightSet:
    """The set to take: with a name that programs look for, of the variant, safetensors before others.

    Without ``variant`` the plain set, or the only variant that there is. Raises
    :class:`~lorapipe.errors.InputError` ``no-such-variant`` or ``several-weights``.
    """
    left = [found for found in sets if found.known] or list(sets)
    variants = {found.variant for found in left}
    if variant is not None and variant not in variants:
        raise _none(folder, variant, variants)
    if variant is None and None not in variants and len(variants) > 1:
        raise _several(folder, left, f"say which: `variant: {min(filter(None, variants))}`")
    taken = variant if variant is not None or None in variants else next(iter(variants))
    left = [found for found in left if found.variant == taken]
    safe = {found.stem for found in left if found.suffix == "safetensors"}
    left = [found for found in left if found.suffix == "safetensors" or found.stem not in safe]
    if len(left) > 1:
        raise _several(folder, left, f"name the one to load: {folder.name}/{left[0].file}")
    return left[0]


def is_weights(name: str) -> bool:
    """Whether a file holds weights, a trainer's state, or those of another program, by its name."""
    return _FILE.fullmatch(name) is not None or name.lower().endswith(_OTHERS)


def holds_weights(names: Iterable[str]) -> bool:
    """Whether one of the files in a folder holds weights."""
    return any(is_weights(name) for name in names)


def _none(folder: Location, variant: str, variants: Iterable[str | None]) -> InputError:
    there = ", ".join(sorted(found for found in variants if found is not None))
    hint = f"there is {there}" if there else "leave 'variant' out: there is none"
    return InputError(
        "no-such-variant", f"has no weights of the variant '{variant}'", hint=hint, where=str(folder)
    )


def _several(folder: Location, sets: Collection[WeightSet], hint: str) -> InputError:
    names = ", ".join(found.file for found in sets)
    message = f"holds {len(sets)} sets of weights: {names}"
    return InputError("several-weights", message, hint=hint, where=str(folder))
