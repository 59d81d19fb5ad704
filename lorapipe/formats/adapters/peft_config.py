"""PEFT's settings of an adapter: ``adapter_config.json``, or what diffusers keeps in a header.

They say what tensors do not: alpha, which modules have another rank or alpha, by which
rule alpha scales, whether a delta is of the transposed weight. (huggingface/peft 0.21.2
``tuners/*/config.py``; huggingface/diffusers 0.42.1 ``loaders``: ``lora_adapter_metadata``,
one object of ``<component>.<field>``.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, sqrt
from types import MappingProxyType
from typing import Any

from lorapipe.errors import InputError
from lorapipe.formats.adapters.patterns import Patterns, path_matches
from lorapipe.formats.problems import file_name
from lorapipe.weights.sources import TensorSource

__all__ = ["HEADER", "Configs", "PeftConfig", "read_configs"]

_FILE, HEADER = "adapter_config.json", "lora_adapter_metadata"

_METHODS: Mapping[str, str] = {
    "LORA": ".lora_", "LOHA": ".hada_", "LOKR": ".lokr_", "OFT": ".oft_", "BOFT": ".boft_", "IA3": ".ia3_",
}  # fmt: skip
"""Methods that are read, and what the roles of their tensors begin with."""

_REFUSED: Mapping[str, str] = {
    "layer_replication": "layers that stand for several",
    "target_parameters": "parameters in place of modules",
    "trainable_token_indices": "single rows of an embedding",
    "alora_invocation_tokens": "a LoRA that acts after certain words only",
    "arrow_config": "a LoRA that is chosen word by word",
    "use_qalora": "QA-LoRA",
    "use_bdlora": "BD-LoRA",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
}
"""Fields that change what the tensors mean, where they are set."""

_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of ``init_lora_weights`` with which the weights that were trained on are not the model's."""

_DEFAULT = 8
"""PEFT's own rank and alpha."""


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """One component's settings. ``prefix`` is what the roles of its tensors begin with."""

    method: str
    prefix: str
    r: float
    alpha: float | None
    ranks: Patterns
    alphas: Patterns
    fields: Mapping[str, Any]

    @property
    def dora(self) -> bool:
        return bool(self.fields.get("use_dora"))

    @property
    def transposed(self) -> bool:
        """Whether weights are kept ``[in, out]``, so that a delta is the transpose of theirs."""
        return bool(self.fields.get("fan_in_fan_out"))

    def rank(self, path: str) -> float:
        return self.ranks.value(path, self.r)

    def scale(self, path: str) -> float | None:
        """``alpha / r``, or ``alpha / sqrt(r)`` of rsLoRA; ``None`` of a method without alpha."""
        if self.alpha is None:
            return None
        alpha, rank = self.alphas.value(path, self.alpha), self.rank(path)
        return alpha / (sqrt(rank) if self.fields.get("use_rslora") else rank)

    def settings(self, path: str) -> Mapping[str, Any]:
        """The fields as they are for one module; ``feedforward`` says on which side IA3 acts there."""
        feedforward = self.fields.get("feedforward_modules") or ()
        keys = [feedforward] if isinstance(feedforward, str) else [str(key) for key in feedforward]
        acts = any(path == key or path.endswith(f".{key}") or path_matches(key, path) for key in keys)
        return {**self.fields, "r": self.rank(path), "feedforward": acts}


@dataclass(frozen=True, slots=True)
class Configs:
    """The settings that a file comes with, by what its modules' names begin with (``unet.``)."""

    where: str
    parts: Mapping[str, PeftConfig]

    @property
    def of_folder(self) -> bool:
        """Whether it is a PEFT folder's, not what diffusers keeps in a header."""
        return self.where == _FILE

    def of(self, stem: str) -> tuple[PeftConfig, str] | None:
        """The settings of a module, and its path in the model that they speak of."""
        for prefix, config in self.parts.items():
            if stem.startswith(prefix):
                return config, stem[len(prefix) :]
        return None


def read_configs(source: TensorSource) -> Configs | None:
    """The settings that a folder or a header holds, if any.

    Raises :class:`InputError` ``config-unsound`` for what PEFT could not have written,
    ``config-unsupported`` for methods and fields that are not read.
    """
    config = getattr(source, "config", None)
    if isinstance(config, Mapping):
        return Configs(_FILE, MappingProxyType({"": _parse(config, _FILE, source)}))
    text = source.metadata.get(HEADER)
    if text is None:
        return None
    parts: dict[str, dict[str, Any]] = {}
    for key, value in _object(text, source).items():
        component, _, name = key.rpartition(".")
        parts.setdefault(component, {})[name] = value
    # A model that was saved alone has no component in front.
    found = {
        f"{c}." if c else "": _parse({"peft_type": "LORA", **p}, HEADER, source) for c, p in parts.items()
    }
    return Configs(HEADER, MappingProxyType(dict(sorted(found.items(), reverse=True))))


def _object(text: str, source: TensorSource) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _unsound("it is no JSON object", HEADER, source)
    return found


def _parse(fields: Mapping[str, Any], where: str, source: TensorSource) -> PeftConfig:
    method = fields.get("peft_type")
    if method is None:
        raise _unsound("it has no 'peft_type'", where, source)
    if not isinstance(method, str) or method not in _METHODS:
        raise _unsupported(f"'peft_type' {str(method)[:40]}", where, source)
    for name, meaning in _REFUSED.items():
        if fields.get(name):
            raise _unsupported(f"'{name}': {meaning}", where, source)
    start = fields.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise _unsupported(
            f"'init_lora_weights' {start[:40]}: it adds to a model that was changed first",
            where,
            source,
            "convert it in PEFT: save_pretrained(..., path_initial_model_for_weight_conversion=...)",
        )
    try:
        alpha = {"LORA": "lora_alpha", "LOHA": "alpha", "LOKR": "alpha"}.get(method)
        return PeftConfig(
            method=method,
            prefix=_METHODS[method],
            r=_number(fields.get("r", _DEFAULT), "r") if alpha else _DEFAULT,
            alpha=_number(fields.get(alpha, _DEFAULT), alpha, positive=False) if alpha else None,
            ranks=_patterns(fields, "rank_pattern"),
            alphas=_patterns(fields, "alpha_pattern", positive=False),
            fields=MappingProxyType(dict(fields)),
        )
    except ValueError as error:
        raise _unsound(str(error), where, source) from None


def _patterns(fields: Mapping[str, Any], name: str, *, positive: bool = True) -> Patterns:
    found = fields.get(name) or {}
    if not isinstance(found, dict):
        raise ValueError(f"'{name}' is no object")
    return Patterns.of({key: _number(value, name, positive=positive) for key, value in found.items()})


def _number(value: Any, name: str, *, positive: bool = True) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value != 0
    if not good or (positive and not (value > 0 and value == int(value))):
        raise ValueError(f"'{name}' is {str(value)[:40]}")
    return float(value)


def _unsound(what: str, where: str, source: TensorSource) -> InputError:
    return InputError(
        "config-unsound",
        f"its {where} is not PEFT's: {what}",
        hint="copy or download it again",
        where=file_name(source),
    )


def _unsupported(what: str, where: str, source: TensorSource, hint: str | None = None) -> InputError:
    return InputError(
        "config-unsupported",
        f"its {where} has {what}, which lorapipe does not read",
        hint=hint or "merge it in PEFT, and load the merged model as a checkpoint",
        where=file_name(source),
    )
