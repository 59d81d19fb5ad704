"""mergekit's YAML as a recipe, where all its models are one base with LoRAs (``base+lora``).

There the models' differences from the base, which mergekit computes from whole weights, are the
LoRAs' deltas, and need no other model to be read. *Source*: arcee-ai/mergekit 0.1.5 ``config.py``,
``merge_methods/registry.py``, ``generalized_task_arithmetic.py``, ``linear.py``, ``nuslerp.py``, ``sce.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import float_info
from types import MappingProxyType
from typing import Any

import yaml

from lorapipe.drafts.sheet import Sheet
from lorapipe.errors import InputError, RecipeError
from lorapipe.recipe.draft import Draft
from lorapipe.recipe.model import JSON

__all__ = ["mergekit_recipe"]


@dataclass(frozen=True, slots=True)
class _Method:
    """A method of ``combine``, and what mergekit does unless told otherwise."""

    name: str
    normalize: bool
    elects: bool = False
    random: bool = False
    density: str = "density"


_METHODS: Mapping[str, _Method] = MappingProxyType(
    {
        "ties": _Method("ties", normalize=True, elects=True),
        "dare_ties": _Method("dare-ties", normalize=False, elects=True, random=True),
        "dare_linear": _Method("dare-linear", normalize=False, random=True),
        "della": _Method("della", normalize=True, elects=True, random=True),
        "breadcrumbs": _Method("breadcrumbs", normalize=False),
        "sce": _Method("sce", normalize=False, density="select_topk"),
    }
)
_SUMS = ("linear", "task_arithmetic", "passthrough")
_DTYPES = MappingProxyType({"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"})


@dataclass(frozen=True, slots=True)
class _Input:
    """A model of the list: the folder of its base, that of its LoRA if it has one, its parameters."""

    base: str
    lora: str | None
    parameters: Mapping[str, Any]


def mergekit_recipe(config: Path, target: str, folder: Path) -> Draft:
    """The recipe of a mergekit configuration; ``target`` is the folder to write the model to.

    ``folder`` is the one that the recipe will lie in; paths in ``config`` start from the current
    folder, as mergekit's do. Raises :class:`~lorapipe.errors.InputError` for a file that is no
    configuration, and :class:`~lorapipe.errors.RecipeError` ``not-expressible`` for what is more
    than a base with LoRAs.
    """
    read = _read(config)
    try:
        return _recipe(read, target, Sheet(folder, Path.cwd()), config.name)
    except RecipeError as error:
        raise error.located(where=str(config)) from error.__cause__


def _read(config: Path) -> Mapping[str, Any]:
    try:
        read = yaml.load(config.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # both are safe loaders
    except OSError as error:
        raise InputError(
            "input-unreadable", f"cannot be read: {error.strerror}", where=str(config)
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError("not-yaml", f"is no YAML: {error}", where=str(config)) from error
    if not isinstance(read, Mapping) or not isinstance(read.get("merge_method"), str):
        raise InputError(
            "not-mergekit", "is no mergekit configuration", hint="it has no 'merge_method'", where=str(config)
        )
    return read


def _recipe(read: Mapping[str, Any], target: str, sheet: Sheet, name: str) -> Draft:
    sheet.tell(f"From mergekit's {name}.")
    method = read["merge_method"]
    for section in ("slices", "modules"):
        if read.get(section):
            raise _refused(f"'{section}' put models together layer by layer", "give the models as 'models'")
    inputs = _inputs(read)
    base = _one_base(inputs)
    model = sheet.load(base, name="base")
    if method in _SUMS:
        loras = _weighted_sum(method, read, inputs, sheet)
    elif method in _METHODS:
        loras = {_combined(_METHODS[method], read, inputs, sheet): 1.0}
    else:
        known = ", ".join([*_SUMS, *_METHODS])
        raise _refused(f"merge_method {method} is none that is known of LoRAs", f"known are {known}")
    merged = sheet.add("merged", {"merge-into-checkpoint": model, "loras": loras})
    if read.get("tokenizer_source") or read.get("tokenizer"):
        sheet.tell("The tokenizer is the base's; what the configuration says of it is passed over.")
    dtype = read.get("out_dtype") or read.get("dtype")
    if dtype is not None and dtype not in _DTYPES:
        raise _refused(f"dtype {dtype} is none that lorapipe writes", f"one of {', '.join(_DTYPES)}")
    saving: dict[str, JSON] = {} if dtype is None else {"dtype": _DTYPES[dtype]}
    sheet.save(merged, target.rstrip("/") + "/", saving)
    return sheet.draft()


def _inputs(read: Mapping[str, Any]) -> tuple[_Input, ...]:
    models = read.get("models")
    if not isinstance(models, Sequence) or isinstance(models, str) or not models:
        raise _refused("it names no models", "give them as 'models'")
    inputs = []
    for entry in models:
        if not isinstance(entry, Mapping) or "model" not in entry:
            raise _refused("an entry of 'models' names no model", "such as - model: base+lora")
        base, lora = _reference(entry["model"])
        inputs.append(
            _Input(base, lora, {**(read.get("parameters") or {}), **(entry.get("parameters") or {})})
        )
    given = read.get("base_model")
    return (*inputs, *([_Input(*_reference(given), {})] if given is not None else []))


def _reference(said: object) -> tuple[str, str | None]:
    """A model and its LoRA: ``base+lora``, or ``{model: base, lora: lora}``."""
    if isinstance(said, str):
        base, _, lora = said.partition("+")
    elif isinstance(said, Mapping):
        base, lora = (_path(said.get(part)) for part in ("model", "lora"))
    else:
        base = lora = ""
    if not base:
        raise _refused(f"'{said}' names no model", "such as base+lora")
    for path in (base, lora):
        if "@" in path:
            raise _refused(f"'{path}' names a revision of a hub", "download it, and name its folder")
    return base, lora or None


def _path(said: object) -> str:
    """A path, alone or as ``{path: ..., revision: ...}``."""
    if isinstance(said, Mapping):
        return str(said.get("path", "")) + (f"@{said['revision']}" if said.get("revision") else "")
    return str(said or "")


def _one_base(inputs: Sequence[_Input]) -> str:
    bases = list(dict.fromkeys(each.base for each in inputs))
    if len(bases) > 1:
        raise _refused(
            f"its models are of different bases: {', '.join(bases)}",
            "whole models can be turned into LoRAs of one base with 'extract-lora'",
        )
    if not any(each.lora for each in inputs):
        raise _refused("no model has a LoRA", "write it as base+lora")
    return bases[0]


def _weighted_sum(
    method: str, read: Mapping[str, Any], inputs: Sequence[_Input], sheet: Sheet
) -> dict[str, JSON]:
    """``linear``, ``task_arithmetic``, ``passthrough``: LoRAs with weights.

    Where weights are normalised, a model without LoRA has its share of the whole, too.
    """
    weighed = [each for each in inputs if each.parameters or each.lora]
    if method == "passthrough":
        if len(weighed) > 1 or _number(weighed[0].parameters, "scale", 1.0) != 1.0:
            raise _refused("passthrough takes one model as it is", "for several use task_arithmetic")
        return {_load(weighed[0], sheet): 1.0}
    weights = [_number(each.parameters, "weight", None) for each in weighed]
    normal = _flag(read, "normalize", default=method == "linear")
    total = sum(weights)
    if method == "linear" and not normal and abs(total - 1.0) > 1e-9:
        raise _refused("weights that do not add up to 1 scale the base itself", "set normalize: true")
    scale = 1.0 / total if normal and abs(total) > 1e-8 else 1.0
    scale *= _number(read.get("parameters") or {}, "lambda", 1.0)
    pairs = [(each, weight) for each, weight in zip(weighed, weights, strict=True) if each.lora]
    return {_load(each, sheet): weight * scale for each, weight in pairs}


def _combined(method: _Method, read: Mapping[str, Any], inputs: Sequence[_Input], sheet: Sheet) -> str:
    """The step of a method that works on differences from the base."""
    loras = [each for each in inputs if each.lora]
    weights = {_load(each, sheet): _number(each.parameters, "weight", 1.0) for each in loras}
    normal = _flag(read, "normalize", default=method.normalize)
    if normal and not method.elects:
        raise _refused(f"normalize: true with {method.name}", "divide the weights by their sum instead")
    if not _flag(read, "rescale", default=method.random) and method.random:
        raise _refused(
            "rescale: false keeps values at random without making up for the others", "leave it out"
        )
    options: dict[str, JSON] = {
        "combine": dict(weights),
        "method": method.name,
        "density": _same(loras, method.density, 1.0),
    }
    if method.elects:
        options["normalize"] = "weights" if normal else "none"
    if method.name == "della":
        options["epsilon"] = _same(loras, "epsilon", 0.15)
    if method.name == "breadcrumbs":
        options["gamma"] = _same(loras, "gamma", 0.01)
    factor = _same(loras, "lambda", 1.0)
    if factor != 1.0:
        options["lambda"] = factor
    remarks = ["mergekit draws another mask in each run; the seed here decides it."] if method.random else []
    return sheet.add("combined", {**options, "dense": True}, *remarks)


def _load(each: _Input, sheet: Sheet) -> str:
    assert each.lora is not None
    return sheet.load(each.lora)


def _same(loras: Sequence[_Input], name: str, default: float) -> float:
    """A parameter that all LoRAs share."""
    values = {_number(each.parameters, name, default) for each in loras}
    if len(values) > 1:
        raise _refused(f"'{name}' differs from model to model", "a 'combine' step has one")
    return values.pop()


def _number(parameters: Mapping[str, Any], name: str, default: float | None) -> float:
    value = parameters.get(name, default)
    if value is None:
        raise _refused(f"a model has no '{name}'", "mergekit needs it as well")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(
            f"'{name}' is a gradient or has filters",
            "one number a LoRA; 'scale' has weights by block and module",
        )
    if not abs(value) <= float_info.max:  # NaN, and what float64 has no number for
        raise _refused(f"'{name}' is {value}", "a number")
    return float(value)


def _flag(read: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = (read.get("parameters") or {}).get(name, default)
    if not isinstance(value, bool | int):
        raise _refused(f"'{name}' is neither true nor false", "one of them")
    return bool(value)


def _refused(message: str, hint: str) -> RecipeError:
    return RecipeError("not-expressible", message, hint=hint)
