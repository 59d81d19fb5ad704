"""LoRA files as adapters: which modules of which family, and their numbers.

A reader (:mod:`lorapipe.formats.adapters.reading`, :mod:`lorapipe.formats.adapters.safeloras`) says which
tensors make a module; what follows is common: the family, the place of each module in
it, and one message for all that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from lorapipe.architectures import Family, recognise_adapter
from lorapipe.architectures import family as family_named
from lorapipe.errors import InputError
from lorapipe.formats.adapters.dialects import has_adapter_names
from lorapipe.formats.adapters.found import Contents, Found
from lorapipe.formats.adapters.placing import Placed, place, targets, verbatim
from lorapipe.formats.adapters.reading import parameter, read_names
from lorapipe.formats.adapters.safeloras import is_safeloras, read_positions
from lorapipe.formats.families import ambiguous, contradicted
from lorapipe.formats.problems import Problems, file_name
from lorapipe.weights.sources import TensorSource
from lorapipe.weights.specs import FLOATING, AdapterSpec, ModuleId

if TYPE_CHECKING:
    from lorapipe.weights.algebra.adapter import Adapter

__all__ = ["BoundAdapter", "bind_adapter", "detect", "is_adapter", "read_adapter", "read_adapter_spec"]

_CHECK = "is it the right file?"
_TRAINED_WHOLE = frozenset({"norm", "parameter", "bias"})
"""Kinds of parameters that LoRAs carry whole beside their factors (Flux's control LoRAs)."""


@dataclass(frozen=True, slots=True)
class BoundAdapter:
    """A file's spec, and what in the file each of its modules and extras is made of."""

    spec: AdapterSpec
    placed: Mapping[ModuleId, Placed]
    contents: Contents


def is_adapter(source: TensorSource) -> bool:
    """Whether a file holds a LoRA, of a supported sort or not; a folder with PEFT's config always does."""
    if getattr(source, "config", None) is not None:
        return True
    return is_safeloras(source.tensors) or has_adapter_names(source.tensors)


def detect(source: TensorSource) -> Literal["lora", "checkpoint"]:
    """What a file is, by its names alone."""
    return "lora" if is_adapter(source) else "checkpoint"


def read_adapter_spec(
    source: TensorSource, family: str | None = None, alpha: float | None = None
) -> AdapterSpec:
    """The spec of a LoRA file; see :func:`bind_adapter`."""
    return bind_adapter(source, family, alpha).spec


def read_adapter(
    source: TensorSource, spec: AdapterSpec | None = None, device: str = "cpu", alpha: float | None = None
) -> Adapter:
    """The LoRA with its numbers in the file's own dtypes; it reads from ``source``, which must stay open.

    ``spec`` is what :func:`read_adapter_spec` gave, where it is known already.

    Raises :class:`InputError` for NaN or Inf in a tensor and for an alpha of 0, NaN or Inf.
    """
    from lorapipe.formats.adapters.values import read_values  # it needs torch

    bound = bind_adapter(source, None if spec is None else spec.family, alpha)
    return read_values(source, bound.spec, bound.placed, bound.contents.extras, device)


def bind_adapter(source: TensorSource, family: str | None = None, alpha: float | None = None) -> BoundAdapter:
    """Bind a file's modules to their family, from names and shapes.

    ``family`` is what the recipe says, needed where the file does not tell; ``alpha`` is
    PEFT's, of a file without its config. Of an unknown family the modules keep the file's
    names as they are.

    Raises :class:`InputError` (or ``ManyErrors`` of several) for everything that is
    wrong with the file, :class:`~lorapipe.errors.RecipeError` ``family-ambiguous``,
    ``family-contradicted`` or ``alpha-known``.
    """
    problems = Problems(source)
    positional = is_safeloras(source.tensors)
    contents = read_positions(source, problems) if positional else read_names(source, problems, alpha)
    if problems or not contents.modules:
        _parameters(source, contents, None, problems)
        problems.check()
        raise InputError("empty-adapter", "it holds no LoRA module", hint=_CHECK, where=file_name(source))
    known, also = _family(source, contents, family)
    modules = (*contents.modules, *_parameters(source, contents, known, problems))
    placed = _placed(source, modules, known, problems)
    problems.check()
    return BoundAdapter(
        replace(_spec(source, contents, known, placed), also=also), MappingProxyType(placed), contents
    )


def _family(
    source: TensorSource, contents: Contents, wanted: str | None
) -> tuple[Family | None, tuple[str, ...]]:
    """The family that the recipe says or the file shows, and the variants that it fits just as well.

    ``None`` of an unknown family.
    """
    given = None if wanted is None else family_named(wanted)
    if contents.family is not None:
        if given is not None and given.name != contents.family:
            raise contradicted(source, given, family_named(contents.family), "its numbered modules")
        return family_named(contents.family), ()
    sizes = {m.path: m.measured.shape for m in contents.modules if not m.parameter and not m.bias}
    if given is not None and all(given.lookup(path) is not None for path in sizes):
        return given, ()
    widths = {path: (shape[0], shape[1]) for path, shape in sizes.items() if len(shape) > 1 and all(shape)}
    found = recognise_adapter(sizes, widths, source.metadata)
    if given is not None:
        if found.candidates and given.name not in found.candidates:
            raise contradicted(source, given, family_named(found.candidates[0]), "its module names")
        return given, ()
    if found.family is None and found.candidates:
        raise ambiguous(source, found, "its modules")
    return (None, ()) if found.family is None else (family_named(found.family), found.also)


def _parameters(
    source: TensorSource, contents: Contents, known: Family | None, problems: Problems
) -> list[Found]:
    """The tensors that are whole parameters of the family; any other is of nothing."""
    found = []
    for name in contents.parameters:
        target = None if known is None else known.place(name)
        if target is not None and target.kind in _TRAINED_WHOLE:
            found.append(parameter(name, name, source.tensors[name]))
        else:
            problems.add("unknown-tensors", name)
    return found


def _placed(
    source: TensorSource, modules: tuple[Found, ...], known: Family | None, problems: Problems
) -> dict[ModuleId, Placed]:
    if known is None:
        pieces = [verbatim(module, source.tensors) for module in modules]
    else:
        aims = zip(modules, targets(modules, known, problems), strict=True)
        pieces = [
            piece
            for module, target in aims
            if target is not None
            for piece in place(module, target, known, source.tensors, problems)
        ]
    placed: dict[ModuleId, Placed] = {}
    for piece in pieces:
        before = placed.setdefault(piece.module, piece)
        if before is not piece:
            problems.add("module-twice", f"{before.found.stem} and {piece.found.stem}")
    return placed


def _spec(
    source: TensorSource, contents: Contents, known: Family | None, placed: Mapping[ModuleId, Placed]
) -> AdapterSpec:
    names = {name for piece in placed.values() for name in piece.found.tensors.values()}
    dtypes = {source.tensors[name].dtype for name in names} & FLOATING
    return AdapterSpec(
        family=None if known is None else known.name,
        modules=MappingProxyType({module: piece.spec for module, piece in placed.items()}),
        dtype=dtypes.pop() if len(dtypes) == 1 else "F32",
        metadata=contents.metadata,
        extras=MappingProxyType({name: extra.spec for name, extra in contents.extras.items()}),
    )
