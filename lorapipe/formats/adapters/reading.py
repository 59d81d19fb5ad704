"""The modules of an adapter's file, by the names of its tensors: their formats, shapes and scales.

A bias that stands beside its weight is a module of its own. What belongs to no module is
named: nothing is left out in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lorapipe.errors import RecipeError
from lorapipe.formats.adapters.dialects import ALPHA, BUNDLED, SCALE, WRAPPER, plain_stem
from lorapipe.formats.adapters.found import Contents, Extra, Found
from lorapipe.formats.adapters.grouping import Group, form_of, group_tensors
from lorapipe.formats.adapters.making import Maker
from lorapipe.formats.adapters.peft_config import HEADER, Configs, read_configs
from lorapipe.formats.adapters.unsupported import unsupported
from lorapipe.formats.problems import Problems, file_name
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import AdapterSpec, TensorSpec

__all__ = ["lacks_alpha", "parameter", "read_names", "wrapped_by_peft"]

_READ = "docs/formats.md lists what lorapipe reads"
_SET = ".set_weight"
_BASE = ".base_layer."
_SAVED = re.compile(r"(?:^|\.)(?:modules_to_save\.[^.]+|base_layer)(?=\.)")
"""The levels that PEFT puts around a module that it saves whole."""


def read_names(source: TensorSource, problems: Problems, alpha: float | None = None) -> Contents:
    """The modules of a file, in the order in which it has them, and its other tensors.

    ``alpha`` is what the recipe says of a file that does not have it.

    Raises :class:`~lorapipe.errors.InputError` as :func:`~.peft_config.read_configs` does,
    :class:`RecipeError` ``alpha-known`` for an ``alpha`` that the file has itself.
    """
    grouped = group_tensors(source.tensors, problems)
    configs = read_configs(source)
    if alpha is not None:
        _check_alpha_is_due(source, configs, grouped.groups)
    extras, others, refused = _rest(grouped.rest, source.tensors, problems)
    maker = Maker(source.tensors, configs, alpha, problems)
    modules = [
        m for path, group in grouped.groups.items() if path not in refused for m in maker.modules(group)
    ]
    if _is_peft(source, configs):
        modules = _with_saved(modules, others, source.tensors, problems)
        others = ()
    metadata = {key: value for key, value in source.metadata.items() if key != HEADER}
    return Contents(tuple(modules), extras, others, metadata)


def lacks_alpha(source: TensorSource) -> bool:
    """Whether a file is PEFT's without the config that belongs to it, so that its alpha is not known."""
    wrapped = any(WRAPPER in name for name in source.tensors)
    return wrapped and read_configs(source) is None and not any(n.endswith(ALPHA) for n in source.tensors)


def wrapped_by_peft(spec: AdapterSpec) -> bool:
    """Whether the modules' names begin as in PEFT's files: others need not be asked for an alpha."""
    return any(WRAPPER in known.spelling.stem for known in spec.modules.values())


def parameter(path: str, name: str, spec: TensorSpec) -> Found:
    """The tensor ``name``, which takes the place of the model's parameter ``path``."""
    form = form_of(frozenset({_SET}))
    assert form is not None
    measured = form.measure({_SET: spec})
    stem = path.removesuffix(".weight").removesuffix(".bias")
    return Found(stem, path, {_SET: name}, form, measured, parameter=True)


def _with_saved(
    modules: Sequence[Found], names: Sequence[str], tensors: Mapping[str, TensorSpec], problems: Problems
) -> list[Found]:
    """The modules, with what PEFT saved of the model: weights that they act on, and whole parameters."""
    saved: dict[str, str] = {}
    for name in names:
        before = saved.setdefault(_SAVED.sub("", plain_stem(name)), name)
        if before != name:
            problems.add("module-twice", f"{before} and {name}")
    found = []
    for module in modules:
        path = module.path + (".bias" if module.bias else ".weight")
        if _BASE not in saved.get(path, ""):
            found.append(module)
            continue
        base = saved.pop(path)
        if _fits(module, tensors[base].shape):
            found.append(module._replace(base=base))
        else:
            problems.add(
                "bad-factor-shape", f"{module.stem} (beside a saved weight {list(tensors[base].shape)})"
            )
    return found + [parameter(path, name, tensors[name]) for path, name in saved.items()]


def _fits(module: Found, base: tuple[int, ...]) -> bool:
    """Whether a saved weight is as large as the module says, where that says anything."""
    shape = module.measured.shape
    shape = shape[::-1] if module.transposed and len(shape) == 2 else shape
    if len(shape) == 2 and len(base) > 2:
        shape = (*shape, *(1 for _ in base[2:]))
    return len(shape) == len(base) and all(size in {0, own} for size, own in zip(shape, base, strict=True))


def _is_peft(source: TensorSource, configs: Configs | None) -> bool:
    """Whether tensors of no module are trained parameters: PEFT saves nothing else beside its own."""
    return (configs is not None and configs.of_folder) or any(WRAPPER in name for name in source.tensors)


def _check_alpha_is_due(source: TensorSource, configs: Configs | None, groups: Mapping[str, Group]) -> None:
    if configs is not None:
        has = f"its {configs.where} says it"
    elif any(group.tensors.keys() & {ALPHA, SCALE} for group in groups.values()):
        has = "its file says it"
    else:
        return
    raise RecipeError(
        "alpha-known",
        f"the alpha of this LoRA is known: {has}",
        hint="leave 'alpha' out; 'scale' changes how strong it is",
        where=file_name(source),
        option="alpha",
    )


def _rest(
    names: tuple[str, ...], tensors: Mapping[str, TensorSpec], problems: Problems
) -> tuple[dict[str, Extra], tuple[str, ...], set[str]]:
    """The embeddings, the tensors that may be parameters, and the paths of modules that are not read."""
    extras: dict[str, Extra] = {}
    others: list[str] = []
    refused: set[str] = set()
    for name in names:
        if name.startswith(BUNDLED):
            extras[name] = Extra(name, tensors[name])
        elif (known := unsupported(name)) is not None:
            problems.say("unsupported-kind", f"{{n}} tensor{{s}} of {known.kind}, not supported", name, _READ)
            # Its other tensors, an alpha say, are no fault of their own.
            refused.add(plain_stem(known.stem))
        else:
            others.append(name)
    return extras, tuple(others), refused
