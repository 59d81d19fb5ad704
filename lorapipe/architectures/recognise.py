"""Which family a file belongs to, from the names in it.

Any subset of a model is enough, so that a family is judged by what the file has and
never by what it lacks. Sizes and metadata only decide between families which the
names fit equally well: SD1 and SD2 name their U-Nets alike.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lorapipe.architectures.catalogue import family, heads
from lorapipe.architectures.expansion import Features
from lorapipe.architectures.family import Family
from lorapipe.architectures.index import Module, Stored

__all__ = ["Recognised", "nearest", "other_families", "recognise_adapter", "recognise_checkpoint"]

# A LoRA of SD3 shares its text encoders with SDXL, one of Flux the first of them: names that a family
# would have to know and does not speak against it. A few stray names are left for the caller to report.
_KNOWN = 0.75
_STRAY = 0.1

# The beginning of a name, by which a table says whether the name may be its family's.
_NUMBER = re.compile(r"[._]\d+(?:[._]|$)")
# The number of a block, not of a layer: more than the tensor's name follows.
_INDEX = re.compile(r"\.\d+(?=\.\w+\.)")

_Pairs = list[tuple[Features, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Recognised:
    """The family, or ``None`` with the ``candidates`` that cannot be told apart, if any.

    Both empty: no known family, so that names are taken verbatim. ``also`` are variants of the
    family that what was seen fits just as well.
    """

    family: str | None
    candidates: tuple[str, ...]
    also: tuple[str, ...] = ()


def recognise_adapter(
    stems: Iterable[str],
    widths: Mapping[str, tuple[int, int]],
    metadata: Mapping[str, str],
) -> Recognised:
    """Recognise a LoRA by its module names.

    ``stems`` are the names before ``.lora_up.weight`` and the like; ``widths`` gives,
    for some or all of them, the rows of ``up`` and the columns of ``down`` (input
    features, without a kernel); ``metadata`` is the file's own. A family is a candidate
    when it knows three quarters of all names and, but for a few, half of each component's;
    those that know most are kept, then those whose sizes fit, then those that the metadata
    names, then those of whose blocks none is left out.
    """
    names = tuple(stems)
    found: dict[Family, dict[str, Module]] = {}
    for name, most in _likely(names):
        if most < max(_KNOWN * len(names), 1, *map(len, found.values())):
            break
        known = family(name)
        modules = {stem: module for stem in names if (module := known.module(stem)) is not None}
        if modules and len(modules) >= _KNOWN * len(names) and _fits_components(known, modules, names):
            found[known] = modules

    def sizes(known: Family) -> _Pairs:
        modules = found[known]
        return [(modules[stem].leaf.features, size) for stem, size in widths.items() if stem in modules]

    return _settle({known: list(modules.values()) for known, modules in found.items()}, sizes, metadata)


def recognise_checkpoint(shapes: Mapping[str, tuple[int, ...]]) -> Recognised:
    """Recognise a checkpoint, or part of one, by its keys.

    ``shapes`` maps keys to shapes; the keys are those of any layout that a family's
    checkpoints have, a folder's with the component's folder before the name. Keys of
    other models (the VAE) say nothing; a key that stands beside a family's and looks like
    one, but is none, speaks against that family.
    """
    found: dict[Family, dict[str, Stored]] = {}
    for name, most in _likely(tuple(shapes)):
        if most < max((len(placed) for placed in found.values()), default=1):
            break
        known = family(name)
        placed = {key: tensor for key in shapes if (tensor := known.stored(key)) is not None}
        if placed and _fits_layout(placed, shapes):
            found[known] = placed

    def sizes(known: Family) -> _Pairs:
        return [(tensor.features, shapes[key]) for key, tensor in found[known].items()]

    modules = {known: [tensor.module for tensor in placed.values()] for known, placed in found.items()}
    settled = _settle(modules, sizes, {})
    # Of a LoRA either will do, of a part of a checkpoint not: what else it holds is not known.
    return Recognised(None, settled.candidates) if settled.also else settled


def _likely(names: tuple[str, ...]) -> list[tuple[str, int]]:
    """The families, each with how many of the names it may know at most, most first.

    A caller that has seen enough reads none of the tables that follow.
    """
    beginnings = Counter(_NUMBER.split(name, 1)[0] for name in names)
    most = {
        head.name: sum(n for beginning, n in beginnings.items() if head.may_know(beginning))
        for head in heads()
    }
    return sorted(most.items(), key=lambda item: -item[1])


def other_families(stems: Iterable[str]) -> dict[str, int]:
    """How many of the names each family knows, most first; families that know none are left out."""
    names = tuple(stems)
    likely = [family(name) for name, most in _likely(names) if most]
    counts = {known.name: sum(known.module(stem) is not None for stem in names) for known in likely}
    return {name: n for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n}


def nearest(known: Family, stem: str, n: int = 3) -> tuple[str, ...]:
    """The names of the family that are most like ``stem``, best first, for a message."""
    words = Counter(_words(stem))
    # Comparing letter by letter with thousands of names takes seconds; those that share most words will do.
    by_words = sorted(known.names(stem), key=lambda name: -(words & Counter(_words(name))).total())
    return tuple(difflib.get_close_matches(stem, by_words[:40], n=n, cutoff=0.6))


def _fits_components(known: Family, modules: Mapping[str, Module], stems: tuple[str, ...]) -> bool:
    """Whether of each model that the names point to half are known, or all but a few."""
    hits = Counter(module.component for module in modules.values())
    misses = Counter(known.claimed(stem) for stem in stems if stem not in modules)
    return all(
        missed <= max(hits[component], _STRAY * len(stems))
        for component, missed in misses.items()
        if component is not None
    )


def _fits_layout(placed: Mapping[str, Stored], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether most of the matrices beside the family's tensors are the family's."""
    hits = Counter(tensor.naming.prefix for tensor in placed.values())
    beside = [key for key, shape in shapes.items() if key not in placed and len(shape) > 1]
    beside = [key for key in beside if key.startswith(tuple(hits))]
    if not beside:
        return True
    leaves = {_leaf(key) for key in placed}
    prefixes = sorted(hits, key=lambda prefix: -len(prefix))
    beneath = ((next(p for p in prefixes if key.startswith(p)), key) for key in beside)
    # A prefix may have other models' tensors behind it; a file of bare names is one model's.
    misses = Counter(prefix for prefix, key in beneath if not prefix or _leaf(key) in leaves)
    return all(hits[p] >= _KNOWN * (hits[p] + missed) for p, missed in misses.items())


def _leaf(key: str) -> tuple[str, ...]:
    return tuple(part for part in key.split(".") if not part.isdigit())[-2:]


def _words(name: str) -> list[str]:
    return re.split(r"[._]", name)


def _settle(
    found: Mapping[Family, list[Module]],
    sizes: Callable[[Family], _Pairs],
    metadata: Mapping[str, str],
) -> Recognised:
    """From the candidates by name to one family, where sizes, metadata or the number of blocks tell."""
    most = max(map(len, found.values()), default=0)
    left = [known for known, modules in found.items() if len(modules) == most]
    if len(left) > 1:
        left = _by_size(left, sizes)
    if len(left) > 1:
        left = _by_metadata(left, metadata)
    if len(left) > 1:
        left = [known for known in left if _is_complete(known, found[known])] or left
    names = {known.name for known in left}
    variants = tuple(sorted(known.name for known in left if known.variant_of in names))
    candidates = tuple(sorted(names))
    if len(candidates) - len(variants) != 1:
        return Recognised(None, candidates)
    (one,) = names - set(variants)
    return Recognised(one, candidates, variants)


def _by_size(left: list[Family], sizes: Callable[[Family], _Pairs]) -> list[Family]:
    """Keep the families that the sizes fit, or all if they fit none.

    Sizes fit when they are the published ones or, as in models cut down for testing,
    all smaller by one whole factor; true size is the stronger evidence.
    """
    scales = {known: _scales(sizes(known)) for known in left}
    fit = {known: next(iter(s)) for known, s in scales.items() if len(s) == 1 and 0 not in s}
    if not fit:
        return left
    exact = 1 in fit.values()
    return [k for k in fit if fit[k] == 1 or not exact]


def _scales(pairs: _Pairs) -> set[int]:
    """Whole factors by which sizes are smaller than published; 0 stands for none."""
    return {
        claimed // size if size and claimed % size == 0 else 0
        for features, shape in pairs
        for claimed, size in zip(features, shape, strict=False)  # kernel axes carry no claim
        if claimed is not None
    }


def _by_metadata(left: list[Family], metadata: Mapping[str, str]) -> list[Family]:
    """The first key, in the tables' order, whose value names some of the families decides."""
    for key in dict.fromkeys(key for known in left for key in known.metadata):
        value = metadata.get(key, "").lower()
        named = [k for k in left if any(fnmatchcase(value, p) for p in k.metadata.get(key, ()))]
        if named:
            return named
    return left


def _is_complete(known: Family, modules: list[Module]) -> bool:
    """Whether the file has a module of every block of the model, if of one.

    Who trains q trains it in all blocks: 19 of HunyuanVideo's 20 would be an odd choice, and
    are all of FLUX.1's.
    """
    found = Counter(_pattern(place) for place in {module.place for module in modules})
    every = Counter(map(_pattern, known.places()))
    return all(count == every[pattern] for pattern, count in found.items())


def _pattern(place: tuple[str, object]) -> tuple[str, object]:
    key, parts = place
    return _INDEX.sub(".#", key), parts
