"""The options of the scripts, as their own parsers take them."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import PurePath
from sys import float_info
from types import MappingProxyType
from typing import Any, NoReturn, cast

from lorapipe.errors import UsageError
from lorapipe.recipe.model import JSON
from lorapipe.recipe.suggest import did_you_mean

__all__ = ["SCRIPTS", "Arguments", "parse_command"]


def number(text: str) -> float:
    """A number as the scripts take it, but for NaN and what is beyond all numbers."""
    value = float(text)
    if not isfinite(value):
        raise ValueError
    return value


def rank(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


_Options = Mapping[str, Mapping[str, Any]]

_PRECISIONS = MappingProxyType({"float": "fp32", "fp16": "fp16", "bf16": "bf16"})
_FLUX_PRECISIONS = MappingProxyType(
    {
        **_PRECISIONS,
        "float32": "fp32",
        "fp32": "fp32",
        "float16": "fp16",
        "bfloat16": "bf16",
        "fp8": "fp8_e4m3",
        "fp8_e4m3fn": "fp8_e4m3",
        "fp8_e5m2": "fp8_e5m2",
    }
)

_PRECISION: _Options = {"--precision": {"default": "float"}, "--save_precision": {}}
_MODELS: _Options = {
    "--models": {"nargs": "*", "default": []},
    "--ratios": {"nargs": "*", "type": number, "default": []},
}
_FLAG: Mapping[str, Any] = {"action": "store_true"}
_SAVE: _Options = {"--save_to": {"required": True}}
_JOIN: _Options = {"--concat": _FLAG, "--shuffle": _FLAG, "--no_metadata": _FLAG}
_RANKS: _Options = {"--new_rank": {"type": rank, "default": 4}, "--new_conv_rank": {"type": rank}}
_EXTRACT: _Options = {
    "--model_org": {"required": True},
    "--model_tuned": {"required": True},
    **_SAVE,
    "--save_precision": {},
    "--dim": {"type": rank, "default": 4},
    "--device": {},
    "--clamp_quantile": {"type": number, "default": 0.99},
    "--no_metadata": _FLAG,
}

SCRIPTS: Mapping[str, _Options] = MappingProxyType(
    {
        "merge_lora": {"--v2": _FLAG, **_PRECISION, "--sd_model": {}, **_SAVE, **_MODELS, **_JOIN},
        "sdxl_merge_lora": {
            **_PRECISION,
            "--sd_model": {},
            **_SAVE,
            **_MODELS,
            "--lbws": {"nargs": "*", "default": []},
            **_JOIN,
        },
        "flux_merge_lora": {
            **_PRECISION,
            "--flux_model": {},
            "--clip_l": {},
            "--t5xxl": {},
            "--mem_eff_load_save": _FLAG,
            "--loading_device": {"default": "cpu"},
            "--working_device": {"default": "cpu"},
            "--save_to": {},
            "--clip_l_save_to": {},
            "--t5xxl_save_to": {},
            **_MODELS,
            **_JOIN,
            "--diffusers": _FLAG,
        },
        "svd_merge_lora": {
            **_PRECISION,
            **_SAVE,
            **_MODELS,
            "--lbws": {"nargs": "*", "default": []},
            **_RANKS,
            "--device": {},
            "--no_metadata": _FLAG,
        },
        "resize_lora": {
            "--save_precision": {},
            **_RANKS,
            **_SAVE,
            "--model": {"required": True},
            "--device": {},
            "--verbose": _FLAG,
            "--dynamic_method": {"choices": ["sv_ratio", "sv_fro", "sv_cumulative"]},
            "--dynamic_param": {"type": number},
        },
        "extract_lora_from_models": {
            "--v2": _FLAG,
            "--v_parameterization": _FLAG,
            "--sdxl": _FLAG,
            "--load_precision": {},
            **_EXTRACT,
            "--conv_dim": {"type": rank},
            "--min_diff": {"type": number, "default": 0.01},
            "--load_original_model_to": {},
            "--load_tuned_model_to": {},
        },
        "flux_extract_lora": {**_EXTRACT, "--mem_eff_safe_open": _FLAG},
        "extract_lora_from_dylora": {
            "--unit": {"type": int, "required": True},
            **_SAVE,
            "--model": {"required": True},
        },
    }
)
"""Script -> option -> how argparse takes it. *Source*: kohya-ss/sd-scripts 48d368f ``networks/``."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """A command line taken apart: its script, the values of its options, and how to read it."""

    script: str
    command: str
    values: Mapping[str, Any]
    as_computed: bool

    def __getitem__(self, option: str) -> Any:
        """The value of an option, named as in the command but for its dashes; ``None`` for none."""
        return self.values.get(option)

    @property
    def dtype(self) -> str:
        """The type of the numbers that the script saves, as ``save`` calls it."""
        return self.named_dtype(self["save_precision"] or self["precision"] or "float")

    def named_dtype(self, precision: str) -> str:
        known = _FLUX_PRECISIONS if self.script == "flux_merge_lora" else _PRECISIONS
        if precision not in known:
            raise UsageError(
                "bad-command",
                f"{self.script}.py: no precision '{precision}' that lorapipe can write",
                hint=f"one of {', '.join(known)}",
            )
        return known[precision]

    @property
    def loading(self) -> Mapping[str, JSON]:
        """The options of ``load`` that the script stands for: FLUX.1's names are HunyuanVideo's as well."""
        return {"family": "flux1"} if self.script.startswith("flux_") else {}

    @property
    def saving(self) -> Mapping[str, JSON]:
        """The options of ``save`` that the command's stand for."""
        return {"dtype": self.dtype, **({"provenance": "none"} if self["no_metadata"] else {})}

    @property
    def block_weights(self) -> tuple[list[float], ...]:
        """The lists of ``--lbws``; none where the option is not used."""
        found = []
        for text in self["lbws"] or ():
            try:
                weights = json.loads(text)
            except ValueError:
                weights = None
            if not isinstance(weights, list) or not all(map(_is_weight, weights)):
                raise UsageError("bad-command", f"--lbws takes lists such as [1,1,0.5], not '{text[:40]}'")
            found.append([float(each) for each in weights])
        return tuple(found)


def _is_weight(value: object) -> bool:
    # JSON in Python has NaN, and numbers that float64 has not.
    return type(value) in (int, float) and abs(cast("float", value)) <= float_info.max


def parse_command(words: Sequence[str], *, as_computed: bool = False) -> Arguments:
    """Take a command line apart: ``python networks/merge_lora.py --models a b ...``.

    What stands before the script (an interpreter, a launcher and its options) is passed over.
    Raises :class:`~lorapipe.errors.UsageError` ``no-script`` or ``bad-command``.
    """
    if len(words) == 1 and " " in words[0]:
        words = shlex.split(words[0].replace("\\\n", " "))
    script, position = _script(words)
    values = vars(_parser(script).parse_args(list(words[position + 1 :])))
    arguments = Arguments(script, shlex.join(words), MappingProxyType(values), as_computed)
    _check_counts(arguments)
    return arguments


def _script(words: Sequence[str]) -> tuple[str, int]:
    """The script that a command runs, and where it is named."""
    for position, word in enumerate(words):
        name = PurePath(word.replace("\\", "/")).name.removesuffix(".py").rpartition(".")[2]
        if name in SCRIPTS:
            return name, position
    scripts = [PurePath(word).stem for word in words if word.endswith(".py")]
    hint = did_you_mean(scripts[0], SCRIPTS) if scripts else None
    known = ", ".join(f"{name}.py" for name in SCRIPTS)
    raise UsageError(
        "no-script", "the command runs no script that can be imported", hint=hint or f"known are {known}"
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError("bad-command", f"{self.prog}: {message}")


def _parser(script: str) -> _Parser:
    parser = _Parser(prog=f"{script}.py", add_help=False)
    for option, settings in SCRIPTS[script].items():
        parser.add_argument(option, **settings)
    return parser


def _check_counts(arguments: Arguments) -> None:
    """Hold what the scripts assert: as many ratios, and lists, as models."""
    models = arguments["models"]
    if models is None:
        return
    if not models:
        raise UsageError("bad-command", f"{arguments.script}.py: --models names no LoRA")
    for option in ("ratios", "lbws"):
        given = arguments[option]
        if given is not None and len(given) != len(models) and (given or option == "ratios"):
            raise UsageError(
                "bad-command",
                f"{arguments.script}.py: {len(models)} models, but {len(given)} {option}",
                hint=f"give --{option} one value for each of --models",
            )
