"""What stands beside the tensors of PEFT's names: ranks and alphas, for PEFT and for diffusers.

PEFT reads them from ``adapter_config.json``, diffusers from the header's
``lora_adapter_metadata``: the same fields, each behind its component's name. A pattern that
begins with ``^`` is a whole path (PEFT since 0.15; diffusers writes such ones itself).
(huggingface/peft 0.21.2 ``tuners/lora/config.py``, ``utils/other.py`` ``get_pattern_key``;
huggingface/diffusers 0.42.1 ``loaders/lora_base.py``.)
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from lorapipe.formats.layouts.table import BIAS, MAGNITUDES, PEFT_PREFIX, SET
from lorapipe.weights.inference.filed import DOWN, FileModule

__all__ = ["CONFIG", "HEADER", "adapter_config", "adapter_metadata"]

CONFIG, HEADER = "adapter_config.json", "lora_adapter_metadata"

_COMPONENTS = frozenset(
    {"unet", "transformer", "transformer_2", "text_encoder", "text_encoder_2", "text_encoder_3"}
)
"""What diffusers calls the models of a pipeline."""

_TEXT = "text_encoder"

Modules = Sequence[tuple[FileModule, float | None]]
"""A file's modules and their alphas."""

_Number = int | float


def adapter_config(modules: Modules, *, fan_in_fan_out: bool = False) -> bytes:
    """The text of ``adapter_config.json`` for modules whose stems are PEFT's.

    Only fields that PEFT has had since it knows DoRA (0.9), but for ``lora_bias`` where it is
    due. ``fan_in_fan_out`` says that weights are kept ``[in, out]``.
    """
    config: dict[str, object] = {
        "auto_mapping": None,
        "base_model_name_or_path": None,
        "bias": "none",
        "fan_in_fan_out": fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "revision": None,
        "task_type": None,
        "use_dora": False,
        "use_rslora": False,
        **_fields([(module.stem.removeprefix(PEFT_PREFIX), module, alpha) for module, alpha in modules]),
    }
    saved = [m.stem.removeprefix(PEFT_PREFIX) for m, _ in modules if SET in m.tensors("F32")]
    config["modules_to_save"] = list(dict.fromkeys(saved)) or None
    return _json(config).encode()


def adapter_metadata(modules: Modules) -> dict[str, str]:
    """The header's key for diffusers; nothing where each alpha is its rank, which needs no word.

    All components are in it or none: diffusers takes defaults for one that has no fields.
    """
    components: dict[str, list[_Module]] = {}
    for module, alpha in modules:
        if not module.words.alpha:
            component, path = _split(module.stem)
            components.setdefault(component, []).append((path, module, alpha))
    if all(alpha in (None, _rank(module)) for own in components.values() for _, module, alpha in own):
        return {}
    told = {
        f"{component}.{field}" if component else field: value
        for component, own in components.items()
        for field, value in _fields(own, exact=not component.startswith(_TEXT)).items()
    }
    return {HEADER: _json(told)}


_Module = tuple[str, FileModule, "float | None"]
"""A module behind its path."""


def _split(stem: str) -> tuple[str, str]:
    """Component and path; a text encoder's without the level that transformers has no more since 5."""
    component, _, path = stem.partition(".")
    if component not in _COMPONENTS:
        return "", stem.removeprefix(PEFT_PREFIX)
    return component, path.removeprefix("text_model.") if component.startswith(_TEXT) else path


def _rank(module: FileModule) -> int:
    """The rank of the module's factors, 0 of a bias."""
    factors = module.tensors("F32")
    return factors[DOWN].shape[0] if DOWN in factors else 0


def _fields(modules: Sequence[_Module], *, exact: bool = True) -> dict[str, object]:
    """Ranks and alphas by path: the most frequent ones, and a pattern for each that differs.

    Unless ``exact`` a level may stand before a path in the model.
    """
    roles = {role for _, module, _ in modules for role in module.tensors("F32")}
    weights = [(path, _rank(module), alpha) for path, module, alpha in modules if _rank(module)]
    ranks: dict[str, _Number] = {path: rank for path, rank, _ in weights}
    alphas = {path: rank if alpha is None else _number(alpha) for path, rank, alpha in weights}
    fields: dict[str, object] = {
        "alpha_pattern": _patterns(alphas, exact=exact),
        "lora_alpha": _usual(alphas),
        "r": _usual(ranks),
        "rank_pattern": _patterns(ranks, exact=exact),
        "target_modules": _targets(list(ranks), exact=exact),
    }
    told = {"use_dora": not roles.isdisjoint(MAGNITUDES), "lora_bias": BIAS in roles}
    return {**fields, **dict.fromkeys((field for field, true in told.items() if true), True)}


def _usual(values: Mapping[str, _Number]) -> _Number:
    return Counter(values.values()).most_common(1)[0][0]


def _patterns(values: Mapping[str, _Number], *, exact: bool) -> dict[str, _Number]:
    usual = _usual(values)
    return {("^" if exact else "") + path: value for path, value in values.items() if value != usual}


def _targets(paths: Sequence[str], *, exact: bool) -> list[str] | str:
    """The modules that have tensors, and no others.

    An entry of a list also means every longer path that ends in it; where one may be
    meant, a regular expression says the paths exactly.
    """
    ends = {path[at:] for path in paths for at in _dots(path)}
    if all("." in path for path in paths) and ends.isdisjoint(paths):
        return list(paths)
    start = "^" if exact else r"^(?:.*\.)?"
    return f"{start}(?:{'|'.join(re.escape(path) for path in paths)})$"


def _dots(path: str) -> list[int]:
    return [at + 1 for at, letter in enumerate(path) if letter == "."]


def _number(value: float) -> _Number:
    return int(value) if value.is_integer() else value


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
