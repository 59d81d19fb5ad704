"""Where two checkpoints can be held against each other: the modules that a LoRA of the family has.

The names are those of the family's usual naming, and a fused weight is cut as that naming
cuts it; of an unknown family every matrix and kernel is a module under its own path, as
PEFT names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lorapipe.architectures import Family, Target, family, titles
from lorapipe.errors import RecipeError
from lorapipe.formats.adapters.dialects import WRAPPER
from lorapipe.formats.layouts.naming import ranges
from lorapipe.weights.inference.extraction import DIFF, Site, Sites
from lorapipe.weights.inference.reference import whole_shape
from lorapipe.weights.specs import FLOATING, CheckpointSpec, Spelling, canonical_shape

__all__ = ["Sides", "find_sites"]

Sides = Sequence[tuple[str, CheckpointSpec]]
"""The checkpoints, by the names of their steps."""

_MODULES = frozenset({"linear", "conv1x1", "conv3x3", "conv"})
_WEIGHT, _BIAS = ".weight", ".bias"
_SUFFIXES: Mapping[str, str] = {"norm": ".w_norm", "bias": ".diff_b", "norm's bias": ".b_norm"}
"""What LyCORIS calls differences of what has one axis (KohakuBlueleaf/LyCORIS f49d30d)."""

_PEFT_UP = ".lora_B.weight"


def find_sites(sides: Sides, components: Sequence[str] = (), *, biases: bool = False) -> Sites:
    """The modules whose weights all sides have, and what they do not agree on.

    ``components`` are those to look at, all unless given; ``te`` is every text encoder.
    ``biases`` takes in biases and norms. Raises :class:`RecipeError` ``family-mismatch``,
    ``family-unknown`` or ``unknown-component``.
    """
    known = _family(sides)
    search = _Search(sides)
    if known is None:
        if components:
            raise _no_component(components[0], ())
        _by_path(search, biases=biases)
        return search.sites(lambda _: False)
    chosen = _chosen(components, known)
    _by_naming(search, known, chosen, biases=biases)
    return search.sites(lambda key: _left_out(key, known, chosen))


def _family(sides: Sides) -> Family | None:
    """The one family of all sides."""
    (first, spec), *others = sides
    for name, other in others:
        if other.family == spec.family:
            continue
        ours, theirs = (titles().get(s.family or "", "of an unknown family") for s in (spec, other))
        unknown = spec.family is None or other.family is None
        raise RecipeError(
            "family-unknown" if unknown else "family-mismatch",
            f"'{first}' is {ours}, '{name}' is {theirs}",
            hint="say `family:` on the step that loads it"
            if unknown
            else "a difference is taken between two checkpoints of one model family",
            option="base",
        )
    return None if spec.family is None else family(spec.family)


def _chosen(wanted: Sequence[str], known: Family) -> frozenset[str]:
    """The components that the names mean."""
    found: set[str] = set()
    for name in wanted:
        meant = [c for c in known.components if c == name or known.group(c) == name]
        if not meant:
            raise _no_component(name, known.components)
        found.update(meant)
    return frozenset(found or known.components)


def _no_component(name: str, known: Sequence[str]) -> RecipeError:
    hint = f"it has {', '.join(known)}" if known else "the family of the checkpoints is not known"
    return RecipeError(
        "unknown-component", f"the model has no component '{name}'", hint=hint, option="components"
    )


@dataclass(slots=True)
class _Search:
    """What was found so far, key by key."""

    sides: Sides
    found: list[Site] = field(default_factory=list)
    alone: dict[str, str] = field(default_factory=dict)
    misfits: dict[str, str] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    covered: set[str] = field(default_factory=set)

    def shape(self, key: str) -> tuple[int, ...] | None:
        """The weight's shape, if all sides have it alike and can be read; what is wrong is noted."""
        shapes = [whole_shape(spec, key) for _, spec in self.sides]
        there = [shape for shape in shapes if shape is not None]
        how = self._unreadable(key)
        if how is None and not there:
            return None
        self.covered.add(key)
        if how is not None:
            self.frozen[key] = how
        elif len(there) < len(shapes):
            lacking = (name for (name, _), s in zip(self.sides, shapes, strict=True) if s is None)
            self.alone[key] = f"not in {_quoted(lacking)}"
        elif len({canonical_shape(shape) for shape in there}) > 1:
            told = (f"{list(s)} in '{n}'" for (n, _), s in zip(self.sides, there, strict=True))
            self.misfits[key] = ", ".join(told)
        else:
            return max(there, key=len)
        return None

    def _unreadable(self, key: str) -> str | None:
        for name, spec in self.sides:
            if (how := spec.frozen.get(key)) is not None:
                return f"{how} in '{name}'"
            for place in spec.keys.get(key, ()):
                if (dtype := spec.tensors[place.key].dtype) not in FLOATING:
                    return f"{dtype} in '{name}'"
        return None

    def sites(self, left_out: Callable[[str], bool]) -> Sites:
        """All that was found, and what is in the checkpoints besides, unless it is ``left_out``."""
        everything = dict.fromkeys(key for _, spec in self.sides for key in _floating(spec))
        rest = [key for key in everything if key not in self.covered and not left_out(key)]
        shapes = {key: {whole_shape(spec, key) for _, spec in self.sides} for key in rest}
        alike = [key for key in rest if len(shapes[key]) == 1 and None not in shapes[key]]
        return Sites(
            found=tuple(self.found),
            others=tuple(alike),
            alone=self.alone,
            misfits=self.misfits,
            strangers=tuple(key for key in rest if key not in set(alike)),
            frozen=self.frozen,
        )


def _floating(spec: CheckpointSpec) -> Iterator[str]:
    """The keys of numbers that mean something by themselves."""
    for key, places in spec.keys.items():
        if all(spec.tensors[p.key].dtype in FLOATING and p.key not in spec.companions for p in places):
            yield key


def _quoted(names: Iterator[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)


def _by_naming(search: _Search, known: Family, chosen: frozenset[str], *, biases: bool) -> None:
    """The modules that the family's first naming has, in the order of the model."""
    naming = known.namings[0]
    keys = dict.fromkeys(
        target.key
        for target in known.targets()
        if target.component in chosen and (target.kind in _MODULES or (biases and target.kind == "norm"))
    )
    for key in keys:
        targets = known.on_key(naming, key)
        if not targets or (shape := search.shape(key)) is None:
            continue
        odd = next((n for target in targets for *_, n in target.parts if shape[0] % n), None)
        if odd is not None:
            search.misfits[key] = f"{shape[0]} rows do not divide into {odd} parts"
            continue
        for target in targets:
            _add(search, known, target, shape)
        beside = (target.bias for target in targets) if biases else ()
        for bias_key in dict.fromkeys(bias.key for bias in beside if bias is not None):
            if (height := search.shape(bias_key)) is None:
                continue
            for target in known.on_key(naming, bias_key):
                _add(search, known, target, height, norm=targets[0].kind == "norm")


def _add(
    search: _Search, known: Family, target: Target, shape: tuple[int, ...], *, norm: bool = False
) -> None:
    stem = known.spell(target, known.namings[0])
    assert stem is not None, "on_key gives what the naming has"
    rows = ranges(target, shape[0])
    height = sum(last - first for first, last in rows)
    suffix = DIFF if target.kind in _MODULES else _SUFFIXES["norm's bias" if norm else target.kind]
    search.found.append(
        Site(
            component=target.component,
            key=target.key,
            ranges=rows,
            shape=(height, *shape[1:]),
            spelling=Spelling(stem, target.transpose),
            whole=not target.parts,
            suffix=suffix,
        )
    )


def _left_out(key: str, known: Family, chosen: frozenset[str]) -> bool:
    target = known.place(key)
    return target is not None and target.component not in chosen


def _by_path(search: _Search, *, biases: bool) -> None:
    """Every weight of an unknown family that PEFT has a name for."""
    keys = dict.fromkeys(key for _, spec in search.sides for key in (*spec.keys, *spec.frozen))
    for key in keys:
        if any(key in spec.frozen for _, spec in search.sides):
            search.shape(key)
            continue
        axes = {len(spec.tensors[p.key].shape) for _, spec in search.sides for p in spec.keys.get(key, ())}
        bias = key.endswith(_BIAS) and axes == {1}
        path = key.removesuffix(_BIAS if bias else _WEIGHT)
        if path == key or "." not in path or not (min(axes) > 1 or (biases and axes == {1})):
            continue
        if (shape := search.shape(key)) is None:
            continue
        suffix = _SUFFIXES["bias"] if bias else DIFF
        spelling = Spelling(WRAPPER + path, up=_PEFT_UP)
        search.found.append(Site("", key, ((0, shape[0]),), shape, spelling, suffix=suffix))
