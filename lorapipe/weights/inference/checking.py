"""What ``check`` asserts: what headers tell of it, and what is said of what does not hold. Torch-free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, isnan, nan

from lorapipe.weights.specs import AdapterSpec, CheckpointSpec, ModuleId, ModuleSpec
from lorapipe.weights.verdicts import Broken, CheckSpec

__all__ = ["Assertions", "Figure", "Limits", "counted", "foretold", "judge", "names", "ranked"]

_SHOWN = 5
"""Modules that a message names; the others are counted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a number may be: ``least`` to ``most``, either of which may be open. NaN is never within.

    >>> 8 in Limits(most=8), float("nan") in Limits(least=0), str(Limits(4, 32))
    (True, False, 'from 4 to 32')
    """

    least: float | None = None
    most: float | None = None

    def __contains__(self, value: float) -> bool:
        low, high = (-inf if self.least is None else self.least), (inf if self.most is None else self.most)
        return low <= value <= high

    def __str__(self) -> str:
        if self.most is None:
            return f"at least {self.least:g}"
        if self.least is None:
            return f"at most {self.most:g}"
        return f"{self.least:g}" if self.least == self.most else f"from {self.least:g} to {self.most:g}"

    @property
    def beyond(self) -> str:
        """What a number is that is not within."""
        if self.most is None:
            return f"below {self.least:g}"
        return f"above {self.most:g}" if self.least is None else f"not {self}"

    def missed(self, value: float) -> float:
        """How far outside a number is; of NaN infinitely far."""
        low = 0.0 if self.least is None else self.least - value
        high = 0.0 if self.most is None else value - self.most
        return inf if isnan(value) else max(low, high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertions:
    """What must hold: see the schema of ``check`` for what each means.

    ``energy`` is for each module and ``total`` for all together, both of the step ``of``;
    ``differs_from`` is the step that must not be equal.
    """

    rank: Limits | None = None
    modules: Limits | None = None
    norm: Limits | None = None
    energy: Limits | None = None
    total: Limits | None = None
    of: str | None = None
    differs_from: str | None = None
    finite: bool = False

    @property
    def open(self) -> bool:
        """Whether there is anything that no header tells."""
        return self.finite or any(
            one is not None for one in (self.norm, self.energy, self.total, self.differs_from)
        )

    def words(self, thing: str) -> Iterator[str]:
        """Each assertion in a few words; ``thing`` is what is counted, module or tensor."""
        if self.rank is not None:
            yield f"rank {self.rank}"
        if self.modules is not None:
            yield f"{self.modules} {thing}s"
        if self.finite:
            yield "finite"
        if self.norm is not None:
            yield f"norm {self.norm}"
        if self.energy is not None:
            yield f"energy of '{self.of}' {self.energy}"
        if self.total is not None:
            yield f"energy of '{self.of}' in all {self.total}"
        if self.differs_from is not None:
            yield f"differs from '{self.differs_from}'"


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured of a module or a tensor; NaN where it was not asked for.

    ``norm`` is ``||x||``, ``left`` is ``||x - y||`` and ``whole`` is ``||y||``, Frobenius norms.
    """

    norm: float = nan
    left: float = nan
    whole: float = nan
    finite: bool = True
    differs: bool = False

    @property
    def energy(self) -> float:
        """``1 - left^2 / whole^2``; of nothing 1 where nothing is, else minus infinity.

        >>> Figure(left=3.0, whole=5.0).energy
        0.64
        """
        if self.whole == 0.0:
            return 1.0 if self.left == 0.0 else -inf
        return 1.0 - (self.left / self.whole) ** 2


def names(spec: AdapterSpec) -> dict[ModuleId, str]:
    """What a file calls the modules; with their place, where one name is that of several."""
    stems = Counter(known.spelling.stem for known in spec.modules.values())
    return {
        module: known.spelling.stem
        if stems[known.spelling.stem] == 1
        else f"{known.spelling.stem} ({module})"
        for module, known in spec.modules.items()
    }


def ranked(known: ModuleSpec) -> bool:
    """Whether a module has a rank that counts: it is a pair of factors, or can be written as one."""
    return len(known.shape) > 1 and known.additive and bool(known.rank)


def counted(spec: AdapterSpec | CheckpointSpec) -> int:
    """Modules that a file would hold, or tensors; at most, where the data decide."""
    if isinstance(spec, CheckpointSpec):
        return len(spec.tensors)
    return sum(not known.empty for known in spec.modules.values())


def foretold(spec: AdapterSpec | CheckpointSpec, asserted: Assertions, differ: bool) -> CheckSpec:
    """What headers alone tell of the assertions; ``differ`` that they show a difference already."""
    thing = "tensor" if isinstance(spec, CheckpointSpec) else "module"
    bounded = isinstance(spec, AdapterSpec) and spec.bounded
    broken = [] if bounded else list(_by_header(spec, asserted))
    if bounded and (broken_count := _never(counted(spec), asserted.modules)) is not None:
        broken.append(broken_count)
    undecided = bounded and not _always(spec, asserted)
    measured = asserted.open and not _only_differs(asserted, differ)
    return CheckSpec(tuple(asserted.words(thing)), counted(spec), measured or undecided, tuple(broken))


def _only_differs(asserted: Assertions, differ: bool) -> bool:
    """Whether nothing is left but a difference that is there."""
    others = (asserted.norm, asserted.energy, asserted.total)
    return differ and not asserted.finite and all(one is None for one in others)


def _never(most: int, limits: Limits | None) -> Broken | None:
    if limits is None or limits.least is None or most >= limits.least:
        return None
    return Broken("modules", f"it has at most {most} modules, not {limits}")


def _always(spec: AdapterSpec | CheckpointSpec, asserted: Assertions) -> bool:
    """Whether upper bounds are within limits that are open below."""
    assert isinstance(spec, AdapterSpec)
    most = max((known.rank for known in spec.modules.values() if ranked(known)), default=0)
    bounds = ((asserted.rank, most), (asserted.modules, counted(spec)))
    return all(limits is None or (limits.least is None and bound in limits) for limits, bound in bounds)


def judge(
    spec: AdapterSpec | CheckpointSpec,
    asserted: Assertions,
    figures: Mapping[str, Figure],
    differs: str | None = None,
) -> tuple[dict[str, object], tuple[Broken, ...]]:
    """The figures of what is asserted, as JSON, and what does not hold.

    ``figures`` are those of all modules or tensors that were measured, by name; ``differs`` says
    where it differs from what it must not be equal to. The worst stands first in what is said.
    """
    thing = "tensor" if isinstance(spec, CheckpointSpec) else "module"
    told, broken = _told_by_header(spec, asserted), list(_by_header(spec, asserted))
    if asserted.finite:
        odd = [name for name, figure in figures.items() if not figure.finite]
        told["finite"] = not odd
        if odd:
            broken.append(Broken("finite", f"{_of(odd, figures, thing)} NaN or Inf", _shown(odd)))
    if asserted.norm is not None:
        missing = _missing(spec)
        norms = {name: figure.norm for name, figure in figures.items() if name not in missing}
        told["norm"] = _range(norms)
        broken += _outside("norm", "a norm", norms, asserted.norm, thing)
    if asserted.energy is not None or asserted.total is not None:
        told["energy"] = {**_range({n: f.energy for n, f in figures.items()}), "total": _total(figures)}
        broken += _energies(asserted, figures, thing)
    if asserted.differs_from is not None:
        told["differs-from"] = differs
        if differs is None:
            broken.append(Broken("differs-from", f"it is equal to '{asserted.differs_from}'"))
    return told, tuple(broken)


def _by_header(spec: AdapterSpec | CheckpointSpec, asserted: Assertions) -> Iterator[Broken]:
    thing = "tensor" if isinstance(spec, CheckpointSpec) else "module"
    if asserted.rank is not None:
        yield from _outside("rank", "a rank", _ranks(spec), asserted.rank, thing)
    if asserted.modules is not None and counted(spec) not in asserted.modules:
        yield Broken("modules", f"it has {counted(spec)} {thing}s, not {asserted.modules}")


def _told_by_header(spec: AdapterSpec | CheckpointSpec, asserted: Assertions) -> dict[str, object]:
    told: dict[str, object] = {}
    if asserted.rank is not None:
        told["rank"] = _range(_ranks(spec))
    if asserted.modules is not None:
        told["modules"] = counted(spec)
    return told


def _ranks(spec: AdapterSpec | CheckpointSpec) -> dict[str, float]:
    assert isinstance(spec, AdapterSpec)
    called = names(spec)
    return {called[module]: known.rank for module, known in spec.modules.items() if ranked(known)}


def _missing(spec: AdapterSpec | CheckpointSpec) -> set[str]:
    """Modules that turned out to be nothing, which no file holds."""
    if isinstance(spec, CheckpointSpec):
        return set()
    called = names(spec)
    return {called[module] for module, known in spec.modules.items() if known.empty}


def _energies(asserted: Assertions, figures: Mapping[str, Figure], thing: str) -> Iterator[Broken]:
    energies = {name: figure.energy for name, figure in figures.items()}
    if asserted.energy is not None:
        yield from _outside("energy", f"an energy of '{asserted.of}'", energies, asserted.energy, thing)
    total = _total(figures)
    if asserted.total is not None and total not in asserted.total:
        message = f"the energy of '{asserted.of}' is {total:.6g} in all, {asserted.total.beyond}"
        yield Broken("energy", message)


def _total(figures: Mapping[str, Figure]) -> float:
    """The energy of all together: ``1 - sum left^2 / sum whole^2``."""
    left = sum(figure.left**2 for figure in figures.values())
    return Figure(left=left**0.5, whole=sum(figure.whole**2 for figure in figures.values()) ** 0.5).energy


def _outside(
    option: str, what: str, values: Mapping[str, float], limits: Limits, thing: str
) -> Iterator[Broken]:
    odd = [name for name, value in values.items() if value not in limits]
    odd.sort(key=lambda name: -limits.missed(values[name]))
    if odd:
        lines = [f"{values[name]:.6g}  {name}" for name in odd]
        yield Broken(option, f"{_of(odd, values, thing)} {what} {limits.beyond}", _shown(lines))


def _of(odd: Sequence[str], all_of: Mapping[str, object], thing: str) -> str:
    return f"{len(odd)} of {len(all_of)} {thing}s {'has' if len(odd) == 1 else 'have'}"


def _shown(lines: Sequence[str]) -> tuple[str, ...]:
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return (*lines[:_SHOWN], *more)


def _range(values: Mapping[str, float]) -> dict[str, object]:
    """The least and the greatest, and whose they are; what is no number is ``null``."""
    if not values:
        return {}
    ends = {"min": min(values, key=values.__getitem__), "max": max(values, key=values.__getitem__)}
    return {
        key: {"value": values[name] if isfinite(values[name]) else None, "of": name}
        for key, name in ends.items()
    }
