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

from lorapipe.architectures.family import Family, families, family
from lorapipe.architectures.table import Features

__all__ = ["Recognised", "nearest", "other_families", "recognise_adapter", "recognise_checkpoint"]

# A LoRA of SD3 shares its text encoders with SDXL, one of Flux the first of them: names that a family
# would have to know and does not speak against it. A few stray names are left for the caller to report.
_KNOWN = 0.75
_STRAY = 0.1

_Pairs = list[tuple[Features, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Recognised:
    """The family, or ``None`` with the ``candidates`` that cannot be told apart, if any.

    Both empty: no known family, so that names are taken verbatim.
    """

    family: str | None
    candidates: tuple[str, ...]


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
    names.
    """
    names = tuple(stems)
    found: dict[Family, int] = {}
    for known in map(family, families()):
        resolved = [stem for stem in names if known.lookup(stem) is not None]
        if resolved and len(resolved) >= _KNOWN * len(names) and _fits_components(known, names):
            found[known] = len(resolved)

    def sizes(known: Family) -> _Pairs:
        targets = ((known.lookup(stem), size) for stem, size in widths.items())
        return [(known.features(target), size) for target, size in targets if target is not None]

    return _settle(found, sizes, metadata)


def recognise_checkpoint(shapes: Mapping[str, tuple[int, ...]]) -> Recognised:
    """Recognise a checkpoint, or part of one, by its keys.

    ``shapes`` maps keys to shapes; the keys are those of a reference layout. Keys that
    are no module's weight (norms, the VAE) say nothing; a key that looks like a module
    of a family's component but is none of it speaks against that family.
    """
    found: dict[Family, int] = {}
    for known in map(family, families()):
        resolved = [key for key in shapes if key in known.tensors]
        if resolved and _fits_layout(known, shapes):
            found[known] = len(resolved)

    def sizes(known: Family) -> _Pairs:
        return [(known.tensors[key], shape) for key, shape in shapes.items() if key in known.tensors]

    return _settle(found, sizes, {})


def other_families(stems: Iterable[str]) -> dict[str, int]:
    """How many of the names each family knows, most first; families that know none are left out."""
    names = tuple(stems)
    counts = {name: sum(family(name).lookup(stem) is not None for stem in names) for name in families()}
    return {name: n for name, n in sorted(counts.items(), key=lambda item: -item[1]) if n}


def nearest(known: Family, stem: str, n: int = 3) -> tuple[str, ...]:
    """The names of the family that are most like ``stem``, best first, for a message."""
    words = Counter(_words(stem))
    # Comparing letter by letter with thousands of names takes seconds; those that share most words will do.
    by_words = sorted(known.names, key=lambda name: -(words & Counter(_words(name))).total())
    return tuple(difflib.get_close_matches(stem, by_words[:40], n=n, cutoff=0.6))


def _fits_components(known: Family, stems: tuple[str, ...]) -> bool:
    hits: Counter[str] = Counter()
    misses: Counter[str] = Counter()
    for stem in stems:
        target = known.lookup(stem)
        if target is not None:
            hits[target.component] += 1
        elif (component := _claimed(known, stem)) is not None:
            misses[component] += 1
    return all(missed <= max(hits[c], _STRAY * len(stems)) for c, missed in misses.items())


def _fits_layout(known: Family, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    leaves = {_leaf(key) for key in known.tensors}
    hits: Counter[str] = Counter()
    misses: Counter[str] = Counter()
    for key, shape in shapes.items():
        if (component := _claimed(known, key)) is None:
            continue
        if key in known.tensors:
            hits[component] += 1
        elif len(shape) > 1 and _leaf(key) in leaves:
            misses[component] += 1
    return all(hits[c] >= _KNOWN * (hits[c] + misses[c]) for c in misses)


def _claimed(known: Family, name: str) -> str | None:
    """The component to which a name's prefix points."""
    return next((c for prefix, c in known.prefixes.items() if name.startswith(prefix)), None)


def _leaf(key: str) -> tuple[str, ...]:
    return tuple(part for part in key.split(".") if not part.isdigit())[-2:]


def _words(name: str) -> list[str]:
    return re.split(r"[._]", name)


def _settle(
    found: Mapping[Family, int],
    sizes: Callable[[Family], _Pairs],
    metadata: Mapping[str, str],
) -> Recognised:
    """From the candidates by name to one family, where sizes or metadata tell."""
    left = [known for known, count in found.items() if count == max(found.values())]
    if len(left) > 1:
        left = _by_size(left, sizes)
    if len(left) > 1:
        left = _by_metadata(left, metadata)
    names = tuple(known.name for known in left)
    return Recognised(names[0] if len(names) == 1 else None, names)


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
