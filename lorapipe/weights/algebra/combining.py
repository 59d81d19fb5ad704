"""``combine``: LoRAs merged by one of the methods of the field, module by module.

What the terms' own factors hold exactly stays in them: a sum, a mean on a sphere, an orthogonal
remainder are weighted sums of deltas. What is a matrix is formed for one module at a time,
and cut to its rank, or kept, before the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from lorapipe.errors import BuildError
from lorapipe.weights.algebra.adapter import Adapter
from lorapipe.weights.algebra.combine import AdapterTerm, part, united_extras
from lorapipe.weights.borders import inside
from lorapipe.weights.each import Each, PutAway, in_memory, serial
from lorapipe.weights.inference.combining import Combination, combine_spec
from lorapipe.weights.inference.joining import Joint
from lorapipe.weights.inference.methods import Result
from lorapipe.weights.linalg.basis import triangle
from lorapipe.weights.linalg.randomness import uniform
from lorapipe.weights.linalg.spectra import leading_spectrum
from lorapipe.weights.linalg.svd import compact_svd
from lorapipe.weights.specs import ModuleId, ModuleSpec
from lorapipe.weights.structures.away import put_dense_away
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import Dense, LowRank
from lorapipe.weights.tensors import all_finite, torch_dtype

__all__ = ["Combined", "combine", "coordinates", "find_method"]


@dataclass(frozen=True, slots=True, eq=False)
class Combined:
    """The adapter, and the share of each module's squared norm that is left in it, where it was cut."""

    adapter: Adapter
    energy: Mapping[ModuleId, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """A module's delta: ``fresh`` if its numbers were made here, ``nothing`` if it is known to be 0.

    ``energy`` is what is left in it, if it was cut.
    """

    delta: Delta
    fresh: bool = True
    nothing: bool = False
    energy: float | None = None


def combine(
    terms: Sequence[AdapterTerm],
    wanted: Combination,
    titles: Mapping[str, str] | None = None,
    *,
    compute: str = "float64",
    each: Each = serial,
    put_away: PutAway = in_memory,
) -> Combined:
    """Merge the terms ``(name, weight, adapter)`` as ``wanted`` says.

    Terms of weight 0 are left out. In a module that not all have, the others' deltas are zeros
    to methods that work value by value; means of directions are of those that have one. New
    factors and matrices are in ``compute``, and ``put_away`` keeps them. Raises what
    :func:`~.inference.combining.combine_spec` raises, :class:`BuildError` ``nothing-left`` where every
    module comes to nothing, ``not-finite``, ``no-svd``, the module named.
    """
    joint = combine_spec([(name, weight, adapter.spec) for name, weight, adapter in terms], wanted, titles)

    def one(module: ModuleId) -> _Made:
        with inside(module):
            return _Module(terms, wanted, joint, module, torch_dtype(compute)).made()

    modules: dict[ModuleId, Delta] = {}
    energy: dict[ModuleId, float] = {}
    nothing = True
    for module, made in zip(joint.spec.modules, each(one, joint.spec.modules), strict=True):
        modules[module] = _put(made.delta, put_away) if made.fresh else made.delta
        nothing = nothing and made.nothing
        if made.energy is not None:
            energy[module] = made.energy
    if nothing:
        raise BuildError(
            "nothing-left",
            f"'{wanted.method}' leaves nothing of these LoRAs: they cancel in every module",
            hint="are two of them the same file?",
        )
    extras = united_extras(terms) if joint.spec.extras else {}
    return Combined(Adapter(joint.spec, modules, extras), energy)


def find_method(home: str) -> Any:
    """The function of a row of :data:`~.inference.methods.METHODS`."""
    module, _, name = home.partition(":")
    return getattr(import_module(f"lorapipe.weights.algebra.methods.{module}"), name)


def coordinates(deltas: Sequence[Delta], dtype: torch.dtype) -> Tensor:
    """The deltas as vectors ``[n, m]``, ``m <= n``, of the same lengths and angles; no delta is formed.

    *Numerics*: by orthogonal matrices alone, so that the error of a product of two is a small
    multiple of ``eps`` times their lengths, and not of the root of ``eps``, as from inner products.
    """
    sides = [delta.side_by_side(dtype) for delta in deltas]
    left = triangle(torch.cat([factors.up for factors, _ in sides], dim=1))
    right = triangle(torch.cat([factors.down.T for factors, _ in sides], dim=1))
    cores, start = [], 0
    for factors, coefficients in sides:
        stop = start + factors.rank
        cores.append(((left[:, start:stop] * coefficients) @ right[:, start:stop].T).flatten())
        start = stop
    return triangle(torch.stack(cores, dim=1)).T


@dataclass(frozen=True, slots=True, eq=False)
class _Module:
    """One module of the result, to be made."""

    terms: Sequence[AdapterTerm]
    wanted: Combination
    joint: Joint
    module: ModuleId
    dtype: torch.dtype

    def made(self) -> _Made:
        """The delta by the method, cut to the module's rank."""
        present = [(weight, delta) for _, weight, delta in self._parts() if delta.rank]
        if not present:
            return _Made(next(delta for _, _, delta in self._parts()), fresh=False)
        result, factor = self.wanted.row.result, self.wanted.settings.factor
        if result is Result.DENSE:
            return self._cut_matrix(self._matrix() * factor)
        if result is Result.FACTORS and len(self._known.shape) > 1:
            return self._cut(self._factors(present).scaled(factor), fresh=True)
        coefficients = [weight for weight, _ in present]
        if result is Result.LINEAR:
            coefficients = self._coefficients(present)
        terms = [
            Term(c * factor * term.coefficient, term.structure)
            for c, (_, delta) in zip(coefficients, present, strict=True)
            for term in delta.terms
        ]
        return self._cut(Delta(self._known.shape, tuple(terms)), fresh=False)

    @property
    def _known(self) -> ModuleSpec:
        return self.joint.spec.modules[self.module]

    def _parts(self) -> Iterator[tuple[int, float, Delta]]:
        """The deltas that meet here, without their weights: each term's place, weight and delta."""
        for piece in self.joint.pieces[self.module]:
            _, weight, adapter = self.terms[piece.term]
            yield piece.term, weight, part(adapter, piece)

    def _function(self) -> Any:
        return find_method(self.wanted.row.home)

    def _coefficients(self, present: Sequence[tuple[float, Delta]]) -> list[float]:
        """One a delta; of one that is all zeros, which has no direction, 0."""
        vectors = coordinates([delta for _, delta in present], self.dtype)
        _see_finite(vectors)
        real = [index for index, vector in enumerate(vectors) if bool(vector.any())]
        coefficients = [0.0] * len(present)
        if real:
            weights = [present[index][0] for index in real]
            found = self._function()(vectors[real], weights, self.wanted.settings)
            for index, coefficient in zip(real, found, strict=True):
                coefficients[index] = coefficient
        return coefficients

    def _factors(self, present: Sequence[tuple[float, Delta]]) -> Delta:
        parts = [_balanced(delta, self.dtype) for _, delta in present]
        for factors in parts:
            _see_finite(factors.up, factors.down)
        made = self._function()(parts, [weight for weight, _ in present], self.wanted.settings)
        return Delta(self._known.shape, (Term(1.0, made),))

    def _matrix(self) -> Tensor:
        """What a method that works value by value makes: ``[O, I*k]``, of a bias ``[O, 1]``."""
        known, settings = self._known, self.wanted.settings
        line = len(known.shape) == 1
        shape = (1, known.shape[0]) if line else (known.shape[0], known.columns)
        found = {place: delta.scaled(weight) for place, weight, delta in self._parts()}
        places = [place for place, (_, weight, _) in enumerate(self.terms) if weight]

        def deltas() -> Iterator[Tensor]:
            for place in places:
                zeros = torch.zeros(1, dtype=self.dtype).expand(shape)
                delta = found[place].dense(self.dtype).reshape(shape) if place in found else zeros
                _see_finite(delta)
                yield delta

        def draw(index: int) -> Tensor:
            # By the term's place in the recipe: what another weighs does not change what is drawn.
            numbers = uniform(settings.seed, f"{self.module} {places[index]}", known.shape[0] * known.columns)
            return numbers.reshape(shape).to(self.dtype)

        made: Tensor = self._function()(deltas(), [self.terms[place][1] for place in places], settings, draw)
        return made.T if line else made

    def _cut_matrix(self, matrix: Tensor) -> _Made:
        """The matrix itself, or the nearest factors of the module's rank."""
        known = self._known
        nothing = not bool(matrix.any())
        if self.wanted.dense or len(known.shape) == 1:
            return _Made(Delta(known.shape, (Term(1.0, Dense(matrix)),)), nothing=nothing)
        factors, energy = _truncated(matrix, known.rank)
        return _Made(Delta(known.shape, (Term(1.0, factors),)), nothing=nothing, energy=energy)

    def _cut(self, delta: Delta, *, fresh: bool) -> _Made:
        """The delta as it is if it may stay so, else the nearest factors of the module's rank."""
        known = self._known
        if known.form is not None or (delta.plain and delta.rank <= known.rank):
            return _Made(delta, fresh=fresh, nothing=fresh and not _any(delta))
        svd = compact_svd(delta, self.dtype)
        squares = svd.s.square()
        total = float(squares.sum())
        energy = float(squares[: known.rank].sum()) / total if total else 1.0
        made = Delta(known.shape, (Term(1.0, svd.factors(known.rank)),))
        return _Made(made, nothing=not total, energy=energy)


def _truncated(matrix: Tensor, rank: int) -> tuple[LowRank, float]:
    """The nearest factors of a rank, zeros beyond the matrix's own, and the energy in them."""
    found = leading_spectrum(matrix, rank)
    noise = torch.finfo(matrix.dtype).eps * max(matrix.shape) * float(found.s[0])
    real = min(rank, int((found.s > noise).sum()))
    factors = found.factors(real)
    up, down = matrix.new_zeros(matrix.shape[0], rank), matrix.new_zeros(rank, matrix.shape[1])
    up[:, :real], down[:real] = factors.up, factors.down
    total = float(torch.linalg.vector_norm(matrix)) ** 2
    return LowRank(up, down), float(found.s[:real].square().sum()) / total if total else 1.0


def _balanced(delta: Delta, dtype: torch.dtype) -> LowRank:
    """The delta as one product, ``sqrt(|c|)`` of each coefficient in both factors, its sign in ``down``."""
    factors, coefficients = delta.side_by_side(dtype)
    root = coefficients.abs().sqrt()
    return LowRank(factors.up * root, (coefficients.sign() * root)[:, None] * factors.down)


def _any(delta: Delta) -> bool:
    """Whether fresh factors are not plainly zero."""
    loaded = [term.structure.load() for term in delta.terms]
    return any(bool(f.up.any()) and bool(f.down.any()) for f in loaded if isinstance(f, LowRank))


def _see_finite(*tensors: Tensor) -> None:
    if not all(map(all_finite, tensors)):
        raise BuildError("not-finite", "NaN or Inf in the factors")


def _put(delta: Delta, put_away: PutAway) -> Delta:
    """The delta with its one fresh structure put away."""
    (term,) = delta.terms
    structure = term.structure
    away = put_dense_away(structure, put_away) if isinstance(structure, Dense) else put_away(structure)
    return Delta(delta.shape, (Term(term.coefficient, away),))
