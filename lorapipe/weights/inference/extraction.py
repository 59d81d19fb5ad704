"""What ``extract-lora`` makes of specs: where differences are taken, and what can come of them.

The torch-free twin of :mod:`~lorapipe.weights.checkpoints.extract`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import isfinite, prod

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.filed import ALPHA, DOWN, UP
from lorapipe.weights.inference.forms import FULL
from lorapipe.weights.inference.ranks import Ranks
from lorapipe.weights.specs import AdapterSpec, Form, ModuleId, ModuleSpec, Spelling, TensorSpec

__all__ = ["DIFF", "EITHER", "Extraction", "Site", "Sites", "extract_spec", "full_form"]

DIFF = ".diff"
"""What a full difference is called behind a module's stem."""

EITHER = "LoRA or full difference"
"""Of a module of which only the data tell whether two factors are smaller than the difference."""

_SAVED = "F32"
"""``dtype: keep`` of what is computed from numbers of any dtype."""

_ALL_VALUES = frozenset({"sv-cumulative", "quantile"})
"""Rules that ask for the sum of all singular values, of which a range finder knows the largest only."""


@dataclass(frozen=True, slots=True)
class Site:
    """A module as the usual naming of the family has it, and where its weight is.

    ``ranges`` are the rows of the reference weight ``key``, in the module's order: one
    range most often, ``whole`` if it is all of the weight. ``shape`` is ``[O, I, *k]`` in the
    reference layout's orientation, ``O`` the rows of all ranges; of a bias or a norm it is
    ``[O]``, and ``suffix`` what a difference of it is called in a file.
    """

    component: str
    key: str
    ranges: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]
    spelling: Spelling
    whole: bool = True
    suffix: str = DIFF

    @property
    def columns(self) -> int:
        return prod(self.shape[1:])

    @property
    def modules(self) -> Mapping[ModuleId, tuple[int, int]]:
        """The modules of identity that it is, and which of its rows each has."""
        if self.whole:
            return {ModuleId(self.component, self.key): (0, self.shape[0])}
        ends = [0, *accumulate(last - first for first, last in self.ranges)]
        named = (ModuleId(self.component, self.key, rows) for rows in self.ranges)
        return dict(zip(named, pairwise(ends), strict=True))


@dataclass(frozen=True, slots=True)
class Sites:
    """Two checkpoints beside each other.

    ``found`` are the modules whose weights both have, ``others`` the reference keys of what
    else both have, and no LoRA holds. ``alone`` and ``misfits`` are weights of modules that one
    of them lacks, or has in another shape, each with what is wrong; ``strangers`` are other
    tensors of which that is true, ``frozen`` weights that are quantised beyond reading.
    """

    found: tuple[Site, ...]
    others: tuple[str, ...] = ()
    alone: Mapping[str, str] = field(default_factory=dict)
    misfits: Mapping[str, str] = field(default_factory=dict)
    strangers: tuple[str, ...] = ()
    frozen: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Extraction:
    """What is asked for.

    ``ranks`` are the most that modules may have; their rule, if there is one, says how many
    they have. ``biases`` takes in what has one axis. With ``full`` a module is kept as its
    difference where factors would be no smaller. One whose numbers all differ by less than
    ``least`` is left out. ``sketched`` finds singular vectors by a randomized range finder.
    Raises :class:`RecipeError` ``rule-needs-all-values``, ``not-a-number``.
    """

    ranks: Ranks
    biases: bool = False
    full: bool = False
    least: float = 0.0
    sketched: bool = False

    def __post_init__(self) -> None:
        rule = self.ranks.dynamic
        if self.sketched and rule is not None and rule.rule in _ALL_VALUES:
            raise RecipeError(
                "rule-needs-all-values",
                f"'{rule.rule}' is about all singular values, and 'method: randomized' finds the largest",
                hint="leave 'method' out, or choose sv-fro, sv-ratio or threshold",
                option="method",
            )
        if not (isfinite(self.least) and self.least >= 0):
            message = f"no difference is below {self.least}"
            raise RecipeError("not-a-number", message, option="min-diff")

    def most(self, site: Site) -> int:
        """The highest rank that factors of the site's delta may have."""
        return self.ranks.target(ModuleSpec(site.shape, 0, site.spelling))

    def larger(self, site: Site, rank: int) -> bool:
        """Whether factors of a rank are no smaller than the difference, which is then kept."""
        return self.full and rank * (site.shape[0] + site.columns) >= site.shape[0] * site.columns


def extract_spec(
    sites: Sequence[Site], family: str | None, wanted: Extraction, *, hidden: bool = False
) -> AdapterSpec:
    """What an extraction may give: bounds, since only the data tell the ranks, and what differs at all.

    Raises :class:`RecipeError` ``nothing-left`` where there is nowhere to take a difference.
    """
    modules = {module: spec for site in sites for module, spec in _specs(site, wanted)}
    if not modules:
        raise RecipeError(
            "nothing-left",
            "the two have no weight in common that a LoRA could change",
            hint="are both checkpoints of one model?",
        )
    return AdapterSpec(family, modules, _SAVED, hidden=hidden, bounded=True)


def _specs(site: Site, wanted: Extraction) -> Iterator[tuple[ModuleId, ModuleSpec]]:
    rank = wanted.most(site)
    for module, (start, stop) in site.modules.items():
        shape = (stop - start, *site.shape[1:])
        known = ModuleSpec(shape, rank, site.spelling)
        if len(shape) == 1:
            known = ModuleSpec(shape, 1, site.spelling, full_form(shape, site))
        elif wanted.larger(site, rank):
            both = (*_factors(shape, rank, site), *full_form(shape, site).tensors)
            form = Form(EITHER, both, undecided=True)
            known = ModuleSpec(shape, max(rank, known.full_rank), site.spelling, form)
        yield module, known


def full_form(shape: tuple[int, ...], site: Site) -> Form:
    """The format of a module of ``shape`` that is kept as its difference."""
    return Form(FULL, ((site.suffix, TensorSpec(_SAVED, _turned(shape, site))),))


def _factors(shape: tuple[int, ...], rank: int, site: Site) -> tuple[tuple[str, TensorSpec], ...]:
    """The tensors of plain factors of at most ``rank``, as they would be saved."""
    out, into, *kernel = _turned(shape, site)
    down, up = (rank, into, *kernel), (out, rank, *(1 for _ in kernel))
    return (
        (ALPHA, TensorSpec("F32", ())),
        (DOWN, TensorSpec(_SAVED, down)),
        (UP, TensorSpec(_SAVED, up)),
    )


def _turned(shape: tuple[int, ...], site: Site) -> tuple[int, ...]:
    """A shape as the file has it."""
    return (shape[1], shape[0], *shape[2:]) if site.spelling.transposed and len(shape) > 1 else shape
