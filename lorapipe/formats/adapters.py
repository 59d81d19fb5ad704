"""LoRA files as adapters: which modules of which family, and their factors.

A dialect (:mod:`lorapipe.formats.kohya`, :mod:`lorapipe.formats.safeloras`) says which
tensors make a module; what follows is common: the family, the place of each module in
it, and one message for all that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from lorapipe.architectures import (
    Family,
    nearest,
    recognise_adapter,
)
from lorapipe.architectures import (
    family as family_named,
)
from lorapipe.errors import InputError
from lorapipe.formats.factors import Contents, Factors, factor_shape
from lorapipe.formats.families import ambiguous, contradicted
from lorapipe.formats.kohya import has_adapter_names, read_names
from lorapipe.formats.problems import Problems, file_name
from lorapipe.formats.safeloras import is_safeloras, read_positions
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec, Spelling

if TYPE_CHECKING:
    from lorapipe.weights.adapter import Adapter

__all__ = ["BoundAdapter", "bind_adapter", "detect", "is_adapter", "read_adapter", "read_adapter_spec"]


@dataclass(frozen=True, slots=True)
class BoundAdapter:
    """A file's spec, and the tensors that each of its modules and extras is made of."""

    spec: AdapterSpec
    factors: Mapping[ModuleId, Factors]
    contents: Contents


def is_adapter(source: TensorSource) -> bool:
    """Whether a file holds a LoRA, of a supported kind or not."""
    return is_safeloras(source.tensors) or has_adapter_names(source.tensors)


def detect(source: TensorSource) -> Literal["lora", "checkpoint"]:
    """What a file is, by its names alone."""
    return "lora" if is_adapter(source) else "checkpoint"


def read_adapter_spec(source: TensorSource, family: str | None = None) -> AdapterSpec:
    """The spec of a LoRA file; see :func:`bind_adapter`."""
    return bind_adapter(source, family).spec


def read_adapter(source: TensorSource, spec: AdapterSpec | None = None, device: str = "cpu") -> Adapter:
    """The LoRA with its factors in the file's own dtypes; it reads from ``source``, which must stay open.

    ``spec`` is what :func:`read_adapter_spec` gave, where it is known already. A term's
    coefficient is alpha / rank, 1.0 without alpha.

    Raises :class:`InputError` for NaN or Inf in a factor and for an alpha of 0, NaN or Inf.
    """
    from lorapipe.formats.adapter_values import read_values  # it needs torch

    bound = bind_adapter(source, None if spec is None else spec.family)
    return read_values(source, bound.spec, bound.factors, bound.contents.extras, device)


def bind_adapter(source: TensorSource, family: str | None = None) -> BoundAdapter:
    """Bind a file's modules to their family, from names and shapes.

    ``family`` is what the recipe says, needed where the file does not tell. Of an unknown
    family the modules keep the file's names as they are.

    Raises :class:`InputError` (or ``ManyErrors`` of several) for everything that is
    wrong with the file, :class:`~lorapipe.errors.RecipeError` ``family-ambiguous`` or
    ``family-contradicted``.
    """
    problems = Problems(source)
    positional = is_safeloras(source.tensors)
    contents = read_positions(source, problems) if positional else read_names(source, problems)
    shaped = [(m, factor_shape(m, source.tensors, problems)) for m in contents.modules]
    problems.check()
    if not shaped:
        raise InputError("empty-adapter", "it holds no LoRA module", hint=_CHECK, where=file_name(source))
    sound = {module: shape for module, shape in shaped if shape is not None}
    known = _family(source, contents, family, sound)
    modules: dict[ModuleId, ModuleSpec] = {}
    factors: dict[ModuleId, Factors] = {}
    for module, shape in sound.items():
        placed = _place(module, shape, known, problems)
        if placed is None:
            continue
        place, modules[place] = placed
        if place in factors:
            problems.add("module-twice", f"{factors[place].stem} and {module.stem}")
        factors[place] = module
    problems.check()
    return BoundAdapter(_spec(source, contents, known, modules), MappingProxyType(factors), contents)


_CHECK = "is it the right file?"
_Shape = tuple[tuple[int, ...], int]
"""A module's shape ``[O, I, *k]`` as the file has it, and its rank."""


def _family(
    source: TensorSource, contents: Contents, wanted: str | None, sound: Mapping[Factors, _Shape]
) -> Family | None:
    """The family that the recipe says or the file shows; ``None`` of an unknown one."""
    given = None if wanted is None else family_named(wanted)
    if contents.family is not None:
        if given is not None and given.name != contents.family:
            raise contradicted(source, given, family_named(contents.family), "its numbered modules")
        return family_named(contents.family)
    stems = [module.stem for module in sound]
    if given is not None and all(given.lookup(stem) is not None for stem in stems):
        return given
    widths = {module.stem: (shape[0], shape[1]) for module, (shape, _) in sound.items()}
    found = recognise_adapter(stems, widths, source.metadata)
    if given is not None:
        if found.candidates and given.name not in found.candidates:
            raise contradicted(source, given, family_named(found.candidates[0]), "its module names")
        return given
    if found.family is None and found.candidates:
        raise ambiguous(source, found, "its modules")
    return None if found.family is None else family_named(found.family)


def _place(
    module: Factors, shape: _Shape, known: Family | None, problems: Problems
) -> tuple[ModuleId, ModuleSpec] | None:
    """Where a module belongs, and its spec in the orientation of the weight there."""
    if known is None:
        return ModuleId("", module.stem), ModuleSpec(shape[0], shape[1], Spelling(module.stem))
    target = module.target or known.lookup(module.stem)
    if target is None:
        near = nearest(known, module.stem, 1) if problems.shows("unknown-modules") else ()
        problems.say(
            "unknown-modules",
            f"{{n}} module{{s}} that {known.title} does not have",
            module.stem + (f" (nearest is {near[0]})" if near else ""),
            "is it a LoRA for another model? then say which: `family:`",
        )
        return None
    size, rank = shape
    if target.transpose:
        if len(size) > 2:
            problems.add("bad-factor-shape", f"{module.stem} (a kernel {list(size)} where a matrix is due)")
            return None
        size = (size[1], size[0])
    # A numbered module has no name of its own, so that it is saved under the usual trainer's.
    stem = module.stem if module.target is None else known.spell(target, "kohya") or ""
    (rows,) = target.rows(size[0]) or (None,)
    place = ModuleId(target.component, target.key, rows)
    return place, ModuleSpec(size, rank, Spelling(stem, target.transpose))


def _spec(
    source: TensorSource, contents: Contents, known: Family | None, modules: Mapping[ModuleId, ModuleSpec]
) -> AdapterSpec:
    dtypes = {source.tensors[name].dtype for module in contents.modules for name in (module.up, module.down)}
    return AdapterSpec(
        family=None if known is None else known.name,
        modules=MappingProxyType(dict(modules)),
        dtype=dtypes.pop() if len(dtypes) == 1 else "F32",
        metadata=contents.metadata,
        extras=MappingProxyType({name: extra.spec for name, extra in contents.extras.items()}),
    )
