"""Files of the first LoRA trainer for Stable Diffusion: modules without names, only numbered.

``unet:<i>:up`` is the up of the i-th Linear met while walking the model's modules of the
classes that the metadata lists; there is no alpha, the scale is 1. Learnt tokens stand
beside them under their own names (``<s1>``), marked in the metadata.
(cloneofsimo/lora d84074b, ``lora_diffusion/lora.py``: ``save_safeloras_with_embeds``.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from lorapipe.architectures import Family, Target, family
from lorapipe.errors import InputError
from lorapipe.formats.adapters.dialects import BUNDLED
from lorapipe.formats.adapters.found import Contents, Extra, Found
from lorapipe.formats.adapters.grouping import Group
from lorapipe.formats.adapters.making import Maker
from lorapipe.formats.forms.lora import DOWN, UP
from lorapipe.formats.problems import Problems, file_name
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import TensorSpec

__all__ = ["is_safeloras", "read_positions"]

_FAMILY = "sd1"
_NAME = re.compile(r"(unet|text_encoder):(0|[1-9][0-9]{0,5}):(up|down)")
_NUMBERING = re.compile(r"(unet|text_encoder)(:\d+:rank)?")
_EMBEDDING = "<embed>"
_ROLES = {"up": UP, "down": DOWN}
_Parts = Mapping[tuple[str, int], Mapping[str, str]]
# The one form that both AUTOMATIC1111 (networks.py) and ComfyUI (sd1_clip.py) look for.
_SUFFIX = ".string_to_param.*"


def is_safeloras(names: Iterable[str]) -> bool:
    """Whether a name is one of this dialect's."""
    return any(_NAME.fullmatch(name) for name in names)


def read_positions(source: TensorSource, problems: Problems) -> Contents:
    """The modules with the place in the model that each number means, and the embeddings.

    Raises :class:`InputError` when the numbers or the shapes are not those of the model.
    """
    known = family(_FAMILY)
    parts: dict[tuple[str, int], dict[str, str]] = {}
    extras: dict[str, Extra] = {}
    for name, spec in source.tensors.items():
        match = _NAME.fullmatch(name)
        if match is not None:
            parts.setdefault((match[1], int(match[2])), {})[match[3]] = name
        elif source.metadata.get(name) == _EMBEDDING and len(spec.shape) in (1, 2):
            rows = spec.shape if len(spec.shape) == 2 else (1, *spec.shape)
            extras[f"{BUNDLED}{name}{_SUFFIX}"] = Extra(name, TensorSpec(spec.dtype, rows))
        else:
            problems.add("unknown-tensors", name)
    modules = tuple(_modules(source, known, parts, problems))
    return Contents(modules, extras, metadata=_own_metadata(source), family=_FAMILY)


def _modules(
    source: TensorSource,
    known: Family,
    parts: Mapping[tuple[str, int], Mapping[str, str]],
    problems: Problems,
) -> Iterator[Found]:
    maker = Maker(source.tensors, None, None, problems)
    for model in dict.fromkeys(model for model, _ in parts):
        numbers = sorted(number for of, number in parts if of == model)
        places = known.positions(model, _classes(source, model))
        if numbers != list(range(len(places))):
            raise _misnumbered(source, known, model, numbers, len(places))
        for number, target in enumerate(places):
            stem = f"{model}:{number}"
            tensors = {_ROLES[which]: name for which, name in parts[model, number].items()}
            for module in maker.modules(Group(stem, stem, tensors)):
                _check_shape(module, target, known, problems)
                yield module._replace(target=target)


def _check_shape(module: Found, target: Target, known: Family, problems: Problems) -> None:
    """A number carries no name: the shape is what shows that it means this module."""
    found, wanted = module.measured.shape[:2], known.features(target)
    if any(want is not None and have != want for have, want in zip(found, wanted, strict=True)):
        problems.say(
            "position-misfit",
            "{n} module{s} whose shape is not that of the module with its number",
            f"{module.stem} is {list(found)}, {target.key} is {list(wanted)}",
            "the LoRA was made for another model",
        )


def _classes(source: TensorSource, model: str) -> tuple[str, ...]:
    """The class names that the metadata lists for a model."""
    text = source.metadata.get(model)
    try:
        classes = json.loads(text) if text is not None else None
    except (ValueError, RecursionError):
        classes = None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise InputError(
            "no-module-classes",
            f"its modules of '{model}' are numbered, and its metadata does not say by which classes",
            hint="the file was written again by a program that lost its metadata: use the original",
            where=file_name(source),
        )
    return tuple(classes)


def _misnumbered(
    source: TensorSource, known: Family, model: str, numbers: list[int], count: int
) -> InputError:
    return InputError(
        "position-count",
        f"it has {len(numbers)} modules of '{model}' up to number {numbers[-1]}, {known.title} has {count}",
        hint=f"the file is incomplete, or made for another model than {known.title}",
        where=file_name(source),
    )


def _own_metadata(source: TensorSource) -> dict[str, str]:
    """The metadata less what describes the numbering."""
    return {
        key: value
        for key, value in source.metadata.items()
        if key not in ("unet", "text_encoder")
        and not re.fullmatch(r"\w+:\d+:rank", key)
        and value != _EMBEDDING
    }
