"""How much ``svd-resize`` keeps of each module: ranks, rules on singular values, a file's size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf, isfinite, prod
from typing import cast

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.forms import passes
from lorapipe.weights.inference.scoring import Score
from lorapipe.weights.specs import DTYPES, AdapterSpec, ModuleId, ModuleSpec

__all__ = ["RULES", "Dynamic", "Rank", "Ranks", "fitted", "fitted_by_score", "least_size"]

RULES = ("sv-ratio", "sv-cumulative", "sv-fro", "threshold", "quantile")

_RANGES: Mapping[str, tuple[float, float]] = {"sv-ratio": (1.0, inf), "threshold": (0.0, inf)}
"""What a rule's value may be; of the others it is a share, at most 1 and above 0."""

_ENTRY = 128
"""Bytes of a tensor's entry in a header, beside its name: never so many, to leave room for metadata."""


@dataclass(frozen=True, slots=True)
class Dynamic:
    """A rank that follows from a module's singular values ``s_0 >= s_1 >= ...``.

    ``sv-ratio``: the values above ``s_0 / value``. ``sv-cumulative``: the fewest whose sum
    is at least ``value`` of the sum of all. ``sv-fro``: the fewest whose squares sum to at
    least ``value^2`` of all squares, so that ``value`` of the Frobenius norm is left.
    ``threshold``: the values above ``value``. ``quantile``: the values up to which the running
    sum is below ``value`` of the sum of all, one less than ``sv-cumulative`` keeps.

    *Source*: the first three are those of kohya-ss/sd-scripts 48d368f ``resize_lora.py``, which
    keeps one value more; the others of KohakuBlueleaf/LyCORIS f49d30d ``lycoris/utils``. Raises
    :class:`RecipeError` ``bad-rule``.
    """

    rule: str
    value: float

    def __post_init__(self) -> None:
        least, most = _RANGES.get(self.rule, (0.0, 1.0))
        fits = least <= self.value <= most and (self.value > 0 or self.rule == "threshold")
        if self.rule not in RULES or not (fits and isfinite(self.value)):
            raise RecipeError("bad-rule", f"no rank follows from {self.rule}: {self.value}", option="dynamic")

    def rank(self, s: Sequence[float]) -> int:
        """How many of the values the rule keeps: at least 1.

        >>> Dynamic("sv-ratio", 4).rank([8.0, 4.0, 2.0, 1.0])
        2
        >>> Dynamic("sv-cumulative", 0.8).rank([8.0, 4.0, 2.0, 1.0])
        2
        >>> Dynamic("sv-fro", 0.9).rank([8.0, 4.0, 2.0, 1.0])
        2
        """
        if self.rule == "sv-ratio":
            return max(1, sum(value * self.value > s[0] for value in s))
        if self.rule == "threshold":
            return max(1, sum(value > self.value for value in s))
        squared = self.rule == "sv-fro"
        sums = list(accumulate([value * value for value in s] if squared else s))
        due = sums[-1] * (self.value**2 if squared else self.value)
        reached = next(n for n, total in enumerate(sums, 1) if total >= due)
        return max(1, reached - 1) if self.rule == "quantile" else reached


Rank = int | Mapping[ModuleId, int]
"""One rank for all modules, or each module's own."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """What ``svd-resize`` aims at: for linear modules, larger kernels and 1x1 kernels.

    Each is one rank, or one for each module. ``conv`` and ``conv1x1`` are ``linear`` unless
    given. With ``dynamic``, ``score`` or ``max_size`` (bytes of the file, see :func:`fitted` and
    :func:`fitted_by_score`) these are the most that a module may have, and no bound where they are
    ``None``. By ``score`` a module may be left with nothing.
    Raises :class:`RecipeError` ``rank-below-one``, ``two-rules`` or ``no-threshold``.
    """

    linear: Rank | None = None
    conv: Rank | None = None
    conv1x1: Rank | None = None
    dynamic: Dynamic | None = None
    max_size: int | None = None
    score: Score | None = None

    def __post_init__(self) -> None:
        if self.score is not None and self.dynamic is not None:
            problem, hint = "'score' and 'dynamic' each choose the ranks", "leave one of them out"
            raise RecipeError("two-rules", problem, hint=hint, option="dynamic")
        if self.score is not None and self.score.threshold is None and self.max_size is None:
            problem = "'score' alone leaves out nothing"
            hint = "give it a threshold, {by: spectral, threshold: -1.2}, or the step a 'max-size'"
            raise RecipeError("no-threshold", problem, hint=hint, option="score")
        for rank in (self.linear, self.conv, self.conv1x1):
            for one in rank.values() if isinstance(rank, Mapping) else (rank,):
                if one is not None and one < 1:
                    raise RecipeError("rank-below-one", f"a rank is a whole number from 1, not {one}")

    @property
    def bounded(self) -> bool:
        """Whether only the data tell the ranks, and specs no more than their bounds."""
        return self.dynamic is not None or self.max_size is not None or self.score is not None

    def target(self, module: ModuleSpec, name: ModuleId | None = None) -> int:
        """The rank that a module may have: by its kernel, and at most its full rank.

        ``name`` is needed where modules have ranks of their own.

        >>> from lorapipe.weights.specs import Spelling
        >>> Ranks(16, conv=48).target(ModuleSpec((320, 4, 3, 3), 64, Spelling("x")))
        36
        """
        kernel = module.shape[2:]
        by_kernel = (self.conv if prod(kernel) > 1 else self.conv1x1) if kernel else None
        rank = self.linear if by_kernel is None else by_kernel
        if rank is None:
            return module.full_rank
        return min(rank[name] if isinstance(rank, Mapping) and name else cast("int", rank), module.full_rank)


def least_size(spec: AdapterSpec, *, scored: bool = False) -> int:
    """Bytes of a file with one component of each module, written with ``dtype: keep``.

    Biases and norms count as they are. Alphas, extras, metadata and the header's entries
    included; an entry counts for more than it takes, which leaves some room for the metadata
    that a save adds. ``scored``: of what has components only the smallest module is in the file.
    """
    firsts = [_first(known, spec.dtype) for known in spec.modules.values() if not passes(known)]
    return _fixed(spec) + (min(firsts, default=0) if scored else sum(firsts))


def fitted(
    spec: AdapterSpec, max_size: int, values: Mapping[ModuleId, Sequence[float]]
) -> dict[ModuleId, int]:
    """How many of each module's singular ``values``, which fall, go into ``max_size`` bytes.

    Greedy over all modules: the component that keeps the most energy for its bytes in the
    file, ``s_j^2 / ((O + I*k) * size of the dtype)``, goes first, the earlier module and
    value on a tie. Since values fall, each module keeps its first ones; it has one at
    least, none of value 0 beyond it, and none after one that did not fit.
    """
    spare = max_size - least_size(spec)
    sizes = [_component(spec.modules[module], spec.dtype) for module in values]
    kept = [1] * len(sizes)
    queue = sorted(
        (-(s * s) / size, index, place)
        for index, (size, found) in enumerate(zip(sizes, values.values(), strict=True))
        for place, s in enumerate(found)
        if place and s
    )
    for _, index, place in queue:
        if place == kept[index] and sizes[index] <= spare:
            kept[index] += 1
            spare -= sizes[index]
    return dict(zip(values, kept, strict=True))


def fitted_by_score(
    spec: AdapterSpec, max_size: int, scores: Mapping[ModuleId, Mapping[int, float]]
) -> dict[ModuleId, tuple[int, ...]]:
    """Which components of each module, of those in ``scores``, go into ``max_size`` bytes.

    The highest score first, the earlier module and component on a tie, and those left out that
    have no more room; a module's first takes its alpha and its entries in the header, too.
    """
    spare = max_size - _fixed(spec)
    names = list(scores)
    queue = sorted(
        (-score, index, place) for index, name in enumerate(names) for place, score in scores[name].items()
    )
    kept: list[list[int]] = [[] for _ in names]
    for _, index, place in queue:
        module = spec.modules[names[index]]
        size = (_component if kept[index] else _first)(module, spec.dtype)
        if size <= spare:
            kept[index].append(place)
            spare -= size
    return {name: tuple(sorted(places)) for name, places in zip(names, kept, strict=True)}


def _fixed(spec: AdapterSpec) -> int:
    """Bytes of what has no components: biases and norms, extras, metadata."""
    passing = sum(
        (known.form.nbytes if known.form else _component(known, spec.dtype)) + _entry(known)
        for known in spec.modules.values()
        if passes(known)
    )
    extras = sum(extra.nbytes + _ENTRY + len(name.encode()) for name, extra in spec.extras.items())
    return passing + extras + len(json.dumps(dict(spec.metadata)).encode())


def _entry(module: ModuleSpec) -> int:
    """Bytes of a module's alpha and of its entries in the header."""
    return 4 + 3 * (_ENTRY + len(module.spelling.stem.encode()))


def _first(module: ModuleSpec, dtype: str) -> int:
    """Bytes of a module with one component."""
    return _component(module, dtype) + _entry(module)


def _component(module: ModuleSpec, dtype: str) -> int:
    """Bytes of a column of ``up`` and a row of ``down``."""
    return (module.shape[0] + module.columns) * DTYPES[dtype]
