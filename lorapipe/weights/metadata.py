"""The metadata of an adapter: what survives a step, and what a save writes anew."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleId, canonical_shape

__all__ = ["LOADER_METADATA", "checkpoint_metadata", "common_metadata", "hidden_spec", "network_metadata"]

LOADER_METADATA = frozenset({"format", "modelspec.architecture", "ss_base_model_version", "ss_v2"})
"""Metadata that a loader needs and that says nothing of the sources."""

_NETWORK = frozenset({"ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args"})
_STALE = ("sshs_", "modelspec.hash")
"""Keys that speak of the bytes of another file."""


def common_metadata(sources: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The keys that every source has with one value, in the first one's order."""
    first, *others = sources
    return {key: value for key, value in first.items() if all(o.get(key) == value for o in others)}


def hidden_spec(spec: AdapterSpec) -> AdapterSpec:
    """The spec of an adapter that must not tell its sources: no extras, bare metadata."""
    kept = {key: value for key, value in spec.metadata.items() if key in LOADER_METADATA}
    return replace(spec, metadata=kept, extras={}, hidden=True)


def network_metadata(spec: AdapterSpec, alphas: Mapping[ModuleId, float]) -> dict[str, str]:
    """The metadata of a saved adapter: the network keys as they now are, the rest kept.

    ``alphas`` are the values that the file will hold. ``ss_network_dim`` and ``_alpha``
    are those of linear modules and 1x1 kernels, ``conv_dim`` and ``conv_alpha`` in
    ``ss_network_args`` those of larger kernels; ``Dynamic`` where modules differ. Hashes
    of another file's bytes go. A hidden adapter keeps only what a loader needs.

    *Source*: the keys are those that kohya-ss/sd-scripts 48d368f writes when it trains.
    """
    larger = {m for m, known in spec.modules.items() if len(canonical_shape(known.shape)) > 2}
    plain = (set(spec.modules) - larger) or larger
    written = {
        key: value
        for key, value in spec.metadata.items()
        if key not in _NETWORK and not key.startswith(_STALE) and (not spec.hidden or key in LOADER_METADATA)
    }
    written["ss_network_module"] = "networks.lora"
    written["ss_network_dim"] = _common({str(spec.modules[m].rank) for m in plain})
    written["ss_network_alpha"] = _common({_shortest(alphas[m]) for m in plain})
    if larger:
        args = {
            "conv_dim": _common({str(spec.modules[m].rank) for m in larger}),
            "conv_alpha": _common({_shortest(alphas[m]) for m in larger}),
        }
        written["ss_network_args"] = json.dumps(args)
    return written


def checkpoint_metadata(spec: CheckpointSpec) -> dict[str, str]:
    """The metadata of a saved checkpoint: its own, less hashes of another file's bytes.

    One that a hidden adapter went into keeps only what a loader needs.
    """
    return {
        key: value
        for key, value in spec.metadata.items()
        if not key.startswith(_STALE) and (not spec.hidden or key in LOADER_METADATA)
    }


def _common(values: set[str]) -> str:
    return next(iter(values)) if len(values) == 1 else "Dynamic"


def _shortest(value: float) -> str:
    """The shortest decimal that is the same float32: ``5.6``, not ``5.599999904632568``.

    A whole number is written out, ``10`` and not ``1e+01``: some readers take it for an integer.
    """
    if value.is_integer():
        return str(int(value))
    bits = struct.pack("<f", value)
    texts = (f"{value:.{digits}g}" for digits in range(1, 10))
    return next(text for text in texts if struct.pack("<f", float(text)) == bits)
