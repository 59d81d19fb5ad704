"""What one module's weight gains: a sum of terms that stays factored.

A delta is ``sum_i c_i * m_i``, each ``m_i`` a :class:`~.structures.Structure`: two factors
in the LoRA proper. Scaling touches the coefficients and joining puts lists end to end, so
both are free and exact; arithmetic happens where a delta is used (a merge, an SVD, a
save), once. The structures are in memory or in a file (:class:`~.lazy.Lazy`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import copysign, prod, sqrt

import torch
from torch import Tensor

from lorapipe.errors import RecipeError
from lorapipe.weights.inference.forms import common_shape
from lorapipe.weights.structures.products import Tucker
from lorapipe.weights.structures.structure import Dense, Loaded, LowRank, Structure, Written, negated

__all__ = ["Addend", "Delta", "Folded", "Term"]


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """``coefficient * structure``; the coefficient holds weight times alpha/rank."""

    coefficient: float
    structure: Structure


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A whole delta as one product in memory, ``coefficient * up @ down``."""

    coefficient: float
    factors: LowRank


@dataclass(frozen=True, slots=True, eq=False)
class Addend:
    """A delta ready to be added: its plain terms as one product, the others one by one."""

    product: LowRank | None
    others: tuple[tuple[float, Loaded], ...]

    @property
    def columns(self) -> int:
        """``I*k``: how wide the rows are."""
        return self.others[0][1].shape[1] if self.product is None else self.product.shape[1]

    def add_to(self, rows: Tensor, start: int, stop: int) -> None:
        """Add rows ``[start, stop)`` of the delta, in place, to ``rows: [stop - start, I*k]``."""
        if self.product is not None:
            rows.addmm_(self.product.up[start:stop], self.product.down)
        for coefficient, loaded in self.others:
            rows.add_(loaded.rows(start, stop).dense(rows.dtype), alpha=coefficient)


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """The sum of ``terms``, in their order, for a weight of ``shape`` ``[O, I, *k]``.

    >>> import torch
    >>> eye = LowRank(torch.eye(2), torch.eye(2))
    >>> half = Delta((2, 2), (Term(0.5, eye),))
    >>> half.joined(half.scaled(-3.0)).dense(torch.float64).tolist()
    [[-1.0, 0.0], [0.0, -1.0]]
    """

    shape: tuple[int, ...]
    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise ValueError("a delta needs at least one term")
        for term in self.terms:
            product = term.structure.shape
            if product != (self.shape[0], self.columns):
                raise ValueError(f"a product {list(product)} is no delta of shape {list(self.shape)}")

    @property
    def columns(self) -> int:
        """``I * prod(k)``: the width of every ``down``."""
        return prod(self.shape[1:])

    @property
    def rank(self) -> int:
        """The stacked rank ``R``: the sum of the terms' ranks; unless all are plain, at most the full one."""
        total = sum(term.structure.rank for term in self.terms)
        return total if self.plain else min(total, self.shape[0], self.columns)

    def scaled(self, by: float) -> Delta:
        """``by`` times this delta; the factors are shared, not copied."""
        if by == 1.0:
            return self
        return Delta(self.shape, tuple(Term(t.coefficient * by, t.structure) for t in self.terms))

    def joined(self, *others: Delta) -> Delta:
        """The sum of this delta and ``others``, of this one's shape: term lists end to end.

        Terms of rank 0 are left out. Raises :class:`RecipeError` ``shapes-disagree`` unless all
        shapes are equal up to a 1x1 kernel, or a kernel that a structure does not tell: see
        :func:`~.forms.common_shape`.
        """
        total = self
        for other in others:
            shape = common_shape(total.shape, other.shape, flat=(not total.plain, not other.plain))
            if shape is None:
                raise RecipeError(
                    "shapes-disagree",
                    f"deltas of shape {list(self.shape)} and {list(other.shape)} cannot be added",
                    hint="the LoRAs were trained on different models",
                )
            terms = (*total.terms, *other.terms)
            total = Delta(shape, tuple(term for term in terms if term.structure.rank) or terms[:1])
        return total

    def rows(self, start: int, stop: int) -> Delta:
        """The delta of rows ``[start, stop)`` of the weight: lossless, nothing is copied."""
        terms = tuple(Term(t.coefficient, t.structure.rows(start, stop)) for t in self.terms)
        return Delta((stop - start, *self.shape[1:]), terms)

    def stacked(self, dtype: torch.dtype) -> LowRank:
        """All terms as one product in ``dtype``, coefficients folded into ``up``.

        ``up = [c_1 up_1, c_2 up_2, ...]: [O, R]``, ``down: [R, I*k]`` in term order.
        """
        return _stacked([(c, pair.factors(dtype)) for c, pair in self._factors(dtype)])

    def addend(self, dtype: torch.dtype, device: str | torch.device = "cpu") -> Addend:
        """The delta as a merge adds it: no dense matrix of plain terms is ever formed."""
        products: list[tuple[float, LowRank]] = []
        others: list[tuple[float, Loaded]] = []
        for c, loaded in self._loaded():
            if isinstance(loaded, LowRank | Tucker):
                products.append((c, loaded.factors(dtype)))
            else:
                others.append((c, loaded.to(device)))
        return Addend(_stacked(products).to(device) if products else None, tuple(others))

    def side_by_side(self, dtype: torch.dtype) -> tuple[LowRank, Tensor]:
        """All terms as one product in ``dtype`` with the coefficients apart, one a rank: ``[R]``.

        The delta is ``up @ diag(coefficients) @ down``; the factors' values are the sources'.
        """
        loaded = self._factors(dtype)
        up = _side_by_side([factors.up for _, factors in loaded], dim=1).to(dtype)
        down = _side_by_side([factors.down for _, factors in loaded], dim=0).to(dtype)
        apart = [up.new_full((factors.rank,), c) for c, factors in loaded]
        return LowRank(up, down), torch.cat(apart)

    def folded(self, dtype: torch.dtype) -> Folded:
        """All terms as one, in term order: the stacked factors and one coefficient > 0.

        Where all magnitudes are equal the factors' values stay, signs go to ``up``, and
        the coefficient is that magnitude: nothing is rounded (factors of one dtype keep
        it). Otherwise ``sqrt(|c|)`` goes on both factors, in ``dtype``, the sign on
        ``up``, and the coefficient is 1.
        """
        loaded = self._factors(dtype)
        magnitude = _common(abs(c) for c, _ in loaded)
        if magnitude is None:
            ups = [f.up.to(dtype) * copysign(sqrt(abs(c)), c) for c, f in loaded]
            downs = [f.down.to(dtype) * sqrt(abs(c)) for c, f in loaded]
            return Folded(1.0, LowRank(torch.cat(ups, dim=1), torch.cat(downs, dim=0)))
        ups = [factors.up if c > 0 else negated(factors.up) for c, factors in loaded]
        downs = [factors.down for _, factors in loaded]
        return Folded(magnitude, LowRank(_side_by_side(ups, dim=1), _side_by_side(downs, dim=0)))

    @property
    def magnitude(self) -> float | None:
        """The ``|c|`` of all terms if it is one and the same, else ``None``."""
        return _common(abs(term.coefficient) for term in self.terms)

    def transposed(self) -> Delta:
        """The transpose of a 2-D delta (or one with a 1x1 kernel), factors as views."""
        out, into, *kernel = self.shape
        terms = tuple(Term(t.coefficient, t.structure.transposed()) for t in self.terms)
        return Delta((into, out, *kernel), terms)

    def dense(self, dtype: torch.dtype, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows ``[start, stop)`` of ``sum c * up @ down`` as ``[rows, I*k]`` in ``dtype``.

        One product of the stacked factors: no plain term's dense matrix is ever formed.
        """
        part = self.rows(start, self.shape[0] if stop is None else stop)
        addend = part.addend(dtype)
        if addend.product is not None and not addend.others:
            return addend.product.dense(dtype)
        total = torch.zeros(part.shape[0], part.columns, dtype=dtype)
        addend.add_to(total, 0, part.shape[0])
        return total

    def written(self) -> Written:
        """The delta as a file of its own format has it: one term's, or full differences' sum.

        Raises ``ValueError`` for a sum that no format holds; its spec says so before.
        """
        loaded = self._loaded()
        if len(loaded) == 1:
            return loaded[0][1].written(loaded[0][0])
        if not all(isinstance(structure, Dense) for _, structure in loaded):
            raise ValueError("no format holds a sum of several structures")
        return _total(loaded, torch.float64).written(1.0)

    def total(self, dtype: torch.dtype) -> Dense:
        """The delta as its numbers in ``dtype``, on the device where its terms are."""
        return _total(self._loaded(), dtype)

    def loaded(self) -> Delta:
        """The delta with every term in memory."""
        return Delta(self.shape, tuple(Term(c, structure) for c, structure in self._loaded()))

    @property
    def plain(self) -> bool:
        """Whether every term is two factors."""
        return all(term.structure.plain for term in self.terms)

    def _loaded(self) -> list[tuple[float, Loaded]]:
        return [(term.coefficient, term.structure.load()) for term in self.terms]

    def _factors(self, dtype: torch.dtype) -> list[tuple[float, LowRank]]:
        """Each term as two factors: plain ones as they are, the others in ``dtype``.

        Where they would be of more than the full rank, and not all are plain, the matrix
        itself beside an identity, which is then the least.
        """
        if self.plain or sum(term.structure.rank for term in self.terms) <= self.rank:
            return [(c, s if isinstance(s, LowRank) else s.factors(dtype)) for c, s in self._loaded()]
        return [(1.0, self.total(dtype).factors(dtype))]


def _stacked(terms: list[tuple[float, LowRank]]) -> LowRank:
    """One product of factors of one dtype, coefficients folded into ``up``."""
    ups = [factors.up * c for c, factors in terms]
    return LowRank(torch.cat(ups, dim=1), torch.cat([factors.down for _, factors in terms], dim=0))


def _total(terms: list[tuple[float, Loaded]], dtype: torch.dtype) -> Dense:
    first, *others = terms
    total = first[1].dense(dtype) * first[0]
    for c, structure in others:
        total.add_(structure.dense(dtype), alpha=c)
    return Dense(total)


def _common(values: Iterable[float]) -> float | None:
    """The one value that all are, else ``None``."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _side_by_side(tensors: list[Tensor], dim: int) -> Tensor:
    """The tensors joined along ``dim`` in a dtype that holds them all exactly."""
    dtypes = {tensor.dtype for tensor in tensors}
    if len(tensors) == 1:
        return tensors[0]
    if len(dtypes) == 1:
        return torch.cat(tensors, dim=dim)
    wide = torch.float64 if torch.float64 in dtypes else torch.float32
    return torch.cat([tensor.to(wide) for tensor in tensors], dim=dim)
