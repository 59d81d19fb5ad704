"""The metadata of an adapter: what survives a step, and what a save writes anew."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lorapipe.weights.inference.filed import DOWN, FileModule
from lorapipe.weights.inference.forms import FULL, LOHA, LOKR, TUCKER
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, canonical_shape

__all__ = [
    "LOADER_METADATA",
    "common_metadata",
    "hidden_spec",
    "kept_metadata",
    "network_metadata",
]

LOADER_METADATA = frozenset({"format", "modelspec.architecture", "ss_base_model_version", "ss_v2"})
"""Metadata that a loader needs and that says nothing of the sources."""

_NETWORK = frozenset({"ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args"})
_STALE = ("sshs_", "modelspec.hash", "modelspec.date", "lora_adapter_metadata")
"""Keys that speak of the bytes, the date or the alphas of another file."""

_ALGORITHMS: Mapping[str, str] = {
    "LoRA": "locon", TUCKER: "locon", LOHA: "loha", LOKR: "lokr", FULL: "full",
    "OFT": "diag-oft", "BOFT": "boft", "IA3": "ia3", "GLoRA": "glora",
}  # fmt: skip
"""What LyCORIS calls the formats."""

_TUCKER_ROLES = frozenset({".lora_mid.weight", ".hada_t1", ".lokr_t2"})
_DORA_ROLES = frozenset({".dora_scale", ".lora_magnitude_vector"})

_RANKED = (DOWN, ".hada_w1_b", ".lokr_w2_b", ".lokr_w1_b", ".b2.weight")
"""Tensors whose first axis is what the format's alpha is divided by."""


def common_metadata(sources: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The keys that every source has with one value, in the first one's order."""
    first, *others = sources
    return {key: value for key, value in first.items() if all(o.get(key) == value for o in others)}


def hidden_spec(spec: AdapterSpec) -> AdapterSpec:
    """The spec of an adapter that must not tell its sources: no extras, bare metadata."""
    kept = {key: value for key, value in spec.metadata.items() if key in LOADER_METADATA}
    return replace(spec, metadata=kept, extras={}, hidden=True)


def kept_metadata(spec: AdapterSpec | CheckpointSpec) -> dict[str, str]:
    """The metadata of a source that a saved file has, too: less what is true of the source only.

    A hidden LoRA, or a checkpoint that one went into, keeps only what a loader needs.
    """
    adapter = isinstance(spec, AdapterSpec)
    return {
        key: value
        for key, value in spec.metadata.items()
        if not (adapter and key in _NETWORK)
        and not key.startswith(_STALE)
        and (not spec.hidden or key in LOADER_METADATA)
    }


def network_metadata(modules: Iterable[tuple[FileModule, float | None]]) -> dict[str, str]:
    """The network keys of a file, from its modules and their alphas.

    ``ss_network_dim`` and ``_alpha`` are those of linear modules and 1x1 kernels,
    ``conv_dim`` and ``conv_alpha`` in ``ss_network_args`` those of larger kernels; ``Dynamic``
    where modules differ. A file with another format than LoRA is LyCORIS', and its arguments
    say which, if it is one.

    *Source*: the keys are those that kohya-ss/sd-scripts 48d368f writes when it trains, and
    the arguments those of KohakuBlueleaf/LyCORIS f49d30d ``lycoris/kohya.py``.
    """
    found = list(modules)
    larger = [(m, alpha) for m, alpha in found if len(canonical_shape(m.shape)) > 2]
    smaller = [(m, alpha) for m, alpha in found if len(canonical_shape(m.shape)) == 2]
    lycoris = any(module.form is not None for module, _ in found)
    args = _arguments([module for module, _ in found]) if lycoris else {}
    written = {"ss_network_module": "lycoris.kohya" if lycoris else "networks.lora"}
    dim, alpha = _strength(smaller or larger)
    written |= {"ss_network_dim": dim, "ss_network_alpha": alpha} if dim else {}
    dim, alpha = _strength(larger)
    args |= {"conv_dim": dim, "conv_alpha": alpha} if dim else {}
    return written | ({"ss_network_args": json.dumps(args)} if args else {})


def _arguments(modules: Sequence[FileModule]) -> dict[str, str]:
    """What LyCORIS was asked for when it made such modules."""
    roles = {role for module in modules if module.form is not None for role, _ in module.form.tensors}
    names = {_ALGORITHMS.get(_inner(module), "") for module in modules if len(module.shape) > 1}
    args = {"algo": next(iter(names))} if len(names) == 1 and "" not in names else {}
    told = {
        "use_tucker": bool(roles & _TUCKER_ROLES),
        "dora_wd": bool(roles & _DORA_ROLES),
        "train_norm": ".w_norm" in roles,
    }
    return args | {key: "True" for key, true in told.items() if true}


def _inner(module: FileModule) -> str:
    """What the module's delta is: a DoRA's may be of any format."""
    if module.form is None:
        return "LoRA"
    for prefix, name in ((".hada_", LOHA), (".lokr_", LOKR), (".lora_down", "LoRA")):
        if any(role.startswith(prefix) for role, _ in module.form.tensors):
            return name
    return module.form.name


def _strength(modules: Sequence[tuple[FileModule, float | None]]) -> tuple[str, str]:
    """The dim and the alpha that modules share; empty texts where they have none."""
    dims: dict[str, None] = {}
    alphas: dict[str, None] = {}
    for module, alpha in modules:
        tensors = module.tensors("F32")
        rank = next((tensors[role].shape[0] for role in _RANKED if role in tensors), None)
        if rank is not None:
            dims[str(rank)] = None
            alphas[_shortest(float(rank) if alpha is None else alpha)] = None
    return _common(dims), _common(alphas)


def _common(values: Mapping[str, None]) -> str:
    return next(iter(values), "") if len(values) < 2 else "Dynamic"


def _shortest(value: float) -> str:
    """The shortest decimal that is the same float32: ``5.6``, not ``5.599999904632568``.

    A whole number is written out, ``10`` and not ``1e+01``: some readers take it for an integer.
    """
    if value.is_integer():
        return str(int(value))
    bits = struct.pack("<f", value)
    texts = (f"{value:.{digits}g}" for digits in range(1, 10))
    return next(text for text in texts if struct.pack("<f", float(text)) == bits)
