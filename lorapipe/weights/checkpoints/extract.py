"""``extract-lora``: the difference of two checkpoints as a LoRA, one module in memory at a time.

Deviations from kohya-ss/sd-scripts 48d368f ``networks/extract_lora_from_models.py``:

1. Factors are not clamped at a quantile of their values, which loses the largest.
2. A module that does not differ is left out; there all of a text encoder is, below ``min_diff``.
3. Ranks end where rounding begins: a file is no larger than what is in the difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.borders import inside
from lorapipe.weights.checkpoints.difference import Difference, Taker
from lorapipe.weights.each import Each, PutAway, in_memory, serial
from lorapipe.weights.inference.extraction import Extraction, Site, Sites, extract_spec, full_form
from lorapipe.weights.inference.reference import whole_shape
from lorapipe.weights.linalg.spectra import Spectrum, low_rank, sketch, spectrum
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec
from lorapipe.weights.structures.away import put_dense_away
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import Dense, LowRank, Structure

__all__ = ["Extracted", "extract"]

_FEW = 8
"""What part of all ranks is tried before the whole SVD, which takes ten times as long."""


@dataclass(frozen=True, slots=True, eq=False)
class Extracted:
    """The adapter, and what is to be told of it.

    ``energy`` is the share of each module's squared norm that is in it, ``error`` the share of
    its norm that is not, measured where a range finder was at work. ``left_out`` counts modules
    by why they are empty; ``lost`` are the greatest differences of what no LoRA holds, by key.
    """

    adapter: Adapter
    energy: Mapping[ModuleId, float]
    error: Mapping[ModuleId, float]
    left_out: Mapping[str, int]
    lost: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """A site's delta as it is kept: factors, a whole matrix, or nothing, and then ``why``."""

    value: LowRank | Dense | None = None
    energy: float = 1.0
    error: float | None = None
    why: str = ""


def extract(
    taker: Taker,
    sites: Sites,
    family: str | None,
    wanted: Extraction,
    *,
    each: Each = serial,
    put_away: PutAway = in_memory,
) -> Extracted:
    """Take the difference at each site, and keep the most of it that ``wanted`` allows.

    ``D = sum_i w_i W_i`` over the sides of ``taker``. Of ``D`` those singular values count that
    are above what rounding alone may give (:meth:`.Taker.take`) and above ``eps * max(O, I*k) *
    s_0``; of these the module gets as many as its rule says, at most its rank. A module without
    one, or whose numbers are all smaller than ``wanted.least``, is left empty, with rank 0.
    Factors are balanced and in the compute type; ``put_away`` keeps them.

    Raises :class:`BuildError` ``nothing-left`` where all are empty, ``not-finite``, ``no-svd``,
    the module named.
    """
    bounds = extract_spec(sites.found, family, wanted, hidden=_hidden(taker))

    def one(site: Site | None) -> _Cut | dict[str, float]:
        if site is None:
            return _lost(taker, sites.others)
        with inside(next(iter(site.modules))):
            return _cut(taker, site, wanted)

    found = _Found()
    # What is only compared is one errand of many, beside the last modules.
    for site, made in zip((*sites.found, None), each(one, (*sites.found, None)), strict=True):
        if isinstance(made, dict):
            found.lost.update(made)
        elif site is not None:
            found.add(site, made, bounds, put_away)
    if not any(known.rank for known in found.specs.values()):
        raise _nothing(found)
    spec = replace(bounds, modules=found.specs, bounded=False)
    adapter = Adapter(spec, found.deltas)
    return Extracted(adapter, found.energy, found.error, dict(found.left_out), found.lost)


def _hidden(taker: Taker) -> bool:
    return any(side.checkpoint.spec.hidden for side in taker.sides)


def _cut(taker: Taker, site: Site, wanted: Extraction) -> _Cut:
    if taker.unchanged(site.key):
        return _Cut(why="same")
    taken = taker.take(site.key, site.ranges, site.columns)
    if taken.largest == 0.0 or taken.largest < wanted.least:
        return _Cut(why="same" if taken.largest == 0.0 else "small")
    if len(site.shape) == 1:
        return _Cut(Dense(taken.matrix))
    return _factored(taker, taken, site, wanted)


def _factored(taker: Taker, taken: Difference, site: Site, wanted: Extraction) -> _Cut:
    matrix, most = taken.matrix, wanted.most(site)
    total = float(torch.linalg.vector_norm(matrix)) ** 2
    found = _spectrum(taker, taken, site, wanted)
    rank = _rank(found, total, taken.rounding, most, wanted)
    if not rank:
        return _Cut(why="rounding")
    if wanted.larger(site, rank):
        return _Cut(Dense(matrix))
    factors = found.factors(rank)
    if not wanted.sketched:
        kept = float(found.s[:rank].square().sum())
        return _Cut(factors, kept / total)
    # In place: the difference is not used again.
    left = float(torch.linalg.vector_norm(matrix.addmm_(factors.up, factors.down, alpha=-1.0))) ** 2
    return _Cut(factors, 1.0 - left / total, sqrt(left / total))


def _spectrum(taker: Taker, taken: Difference, site: Site, wanted: Extraction) -> Spectrum:
    """The difference's singular values: all that may count, or as many as a range finder finds."""
    matrix, most, name = taken.matrix, wanted.most(site), f"{site.component} {site.key}"
    if wanted.sketched:
        return sketch(matrix, most, name)
    # Of a LoRA that was merged and not saved next to nothing is left besides; of files there is.
    tried = max(most, min(matrix.shape) // _FEW)
    found = low_rank(matrix, tried, name, taken.rounding) if taker.unrounded(site.key) else None
    return spectrum(matrix) if found is None else found


def _rank(found: Spectrum, total: float, rounding: float, most: int, wanted: Extraction) -> int:
    """How many singular values count, and are asked for."""
    values: list[float] = found.s.tolist()
    eps = torch.finfo(found.s.dtype).eps
    noise = max(rounding, eps * max(found.matrix.shape) * values[0])
    real = [value for value in values if value > noise]
    rule = wanted.ranks.dynamic
    if not real or rule is None:
        return min(most, len(real))
    # What a range finder does not know counts to the whole as if it were one value.
    rest = sqrt(max(total - sum(value * value for value in values), 0.0)) if wanted.sketched else 0.0
    counted = [*real, rest] if rule.rule == "sv-fro" else real
    return min(most, len(real), rule.rank(counted))


def _lost(taker: Taker, others: Sequence[str]) -> dict[str, float]:
    """The greatest differences of tensors that no LoRA holds, where there are any."""
    found = {}
    for key in others:
        shape = whole_shape(taker.sides[0].checkpoint.spec, key)
        if shape is None or taker.unchanged(key):
            continue
        with inside(key):
            largest = taker.largest(key, shape)
        if largest:
            found[key] = largest
    return found


def _nothing(found: _Found) -> BuildError:
    others = (
        f"what differs is none of its modules: {len(found.lost)} in all, such as {next(iter(found.lost))}"
        if found.lost
        else None
    )
    if found.left_out["small"]:
        message, hint = "no number differs by as much as 'min-diff'", "a smaller 'min-diff' keeps more"
        return BuildError("nothing-left", message, hint=hint, option="min-diff")
    return BuildError(
        "nothing-left", "the weights do not differ, or by rounding only: there is no LoRA in it", hint=others
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What has been made so far."""

    specs: dict[ModuleId, ModuleSpec] = field(default_factory=dict)
    deltas: dict[ModuleId, Delta] = field(default_factory=dict)
    energy: dict[ModuleId, float] = field(default_factory=dict)
    error: dict[ModuleId, float] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    lost: dict[str, float] = field(default_factory=dict)

    def add(self, site: Site, cut: _Cut, bounds: AdapterSpec, put_away: PutAway) -> None:
        """A site's modules: rows of its factors or of its matrix."""
        self.left_out.update([cut.why] if cut.why else [])
        whole = _kept(cut.value, put_away)
        for module, (start, stop) in site.modules.items():
            shape = (stop - start, *site.shape[1:])
            structure = _empty(shape, site) if whole is None else whole
            if whole is not None and (start, stop) != (0, site.shape[0]):
                structure = whole.rows(start, stop)
            delta = Delta(shape, (Term(1.0, structure),))
            known = replace(bounds.modules[module], rank=delta.rank)
            if known.form is not None and known.form.undecided:
                known = replace(known, form=None if structure.plain else full_form(shape, site))
            self.specs[module], self.deltas[module] = known, delta
            if not cut.why and len(shape) > 1:
                self.energy[module] = cut.energy
            if cut.error is not None:
                self.error[module] = cut.error


def _kept(value: LowRank | Dense | None, put_away: PutAway) -> Structure | None:
    """The structure, put away where that is asked for."""
    if value is None:
        return None
    kept: Structure = put_dense_away(value, put_away) if isinstance(value, Dense) else put_away(value)
    return kept


def _empty(shape: tuple[int, ...], site: Site) -> LowRank:
    """Factors of rank 0."""
    up: Tensor = torch.zeros(shape[0], 0, dtype=torch.float64)
    return LowRank(up, torch.zeros(0, site.columns, dtype=torch.float64))
