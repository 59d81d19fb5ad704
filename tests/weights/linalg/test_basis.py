"""A basis is orthonormal and spans its side, however ill-conditioned; the truncation is the optimum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.weights.linalg import basis as bases
from lorapipe.weights.linalg.basis import basis, triangle
from lorapipe.weights.linalg.svd import compact_svd, core
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.structure import LowRank
from tests.weights.samples import Matrix, to_numpy

F64 = torch.float64


def matrix(rows: int, columns: int, condition: float, seed: int = 0) -> torch.Tensor:
    """Random, with singular values that fall geometrically from 1 to ``1 / condition``."""
    rng = np.random.default_rng(seed)
    u = np.linalg.qr(rng.standard_normal((rows, columns)))[0]
    v = np.linalg.qr(rng.standard_normal((columns, columns)))[0]
    return torch.from_numpy(u * np.geomspace(1.0, 1.0 / condition, columns) @ v.T)


def repeated(rows: int, columns: int) -> torch.Tensor:
    once = matrix(rows, columns // 2, 10)
    return torch.cat([once, once], dim=1)


def with_a_zero_column(rows: int, columns: int) -> torch.Tensor:
    side = matrix(rows, columns, 10)
    side[:, 3] = 0.0
    return side


def lopsided(rows: int, columns: int) -> torch.Tensor:
    return matrix(rows, columns, 10) * 2.0 ** torch.linspace(-60, 60, columns, dtype=F64)


SIDES: dict[str, Callable[[int, int], torch.Tensor]] = {
    "well-conditioned": lambda n, r: matrix(n, r, 10),
    "condition 1e3": lambda n, r: matrix(n, r, 1e3),
    "condition 1e7": lambda n, r: matrix(n, r, 1e7),
    "condition 1e12": lambda n, r: matrix(n, r, 1e12),
    "columns of all sizes": lopsided,
    "rank-deficient": repeated,
    "a column of zeros": with_a_zero_column,
    "all zero": lambda n, r: torch.zeros(n, r, dtype=F64),
    "so large that squares overflow": lambda n, r: matrix(n, r, 10) * 1e200,
}


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize(("n", "rank"), [(70, 12), (150, 140), (12, 12), (8, 12)])
def test_the_basis_is_orthonormal_and_gives_back_its_side(kind: str, n: int, rank: int) -> None:
    side = SIDES[kind](max(n, rank), rank)[:n]
    found = basis(side)
    q = to_numpy(found.columns(torch.eye(found.r.shape[0], dtype=F64)))
    assert np.abs(q.T @ q - np.eye(q.shape[1])).max() < 1e-9
    each = np.maximum(np.abs(to_numpy(side)).max(axis=0), 1e-300)
    assert (np.abs(q @ to_numpy(found.r) - to_numpy(side)) / each).max() < 1e-12


@pytest.mark.parametrize("kind", ["well-conditioned", "condition 1e12"])
def test_rows_are_the_columns_transposed(kind: str) -> None:
    found = basis(SIDES[kind](30, 6))
    coordinates = torch.from_numpy(np.random.default_rng(1).standard_normal((6, 2)))
    np.testing.assert_allclose(
        to_numpy(found.rows(coordinates)), to_numpy(found.columns(coordinates)).T, atol=1e-13
    )
    assert found.rows(coordinates).is_contiguous()


def test_reflections_serve_exactly_where_the_gram_matrix_would_not() -> None:
    names = {kind: type(basis(make(70, 12))).__name__ for kind, make in SIDES.items()}
    gram = {kind for kind, name in names.items() if name == "_Gram"}
    assert gram == {"well-conditioned", "condition 1e3", "columns of all sizes"}
    assert set(names.values()) == {"_Gram", "_Reflections"}
    assert type(basis(matrix(70, 12, 10).to(torch.float32))).__name__ == "_Reflections"


@pytest.mark.parametrize("columns", [1, 63, 64, 65, 130])
def test_a_gram_matrix_made_in_blocks_is_whole(columns: int) -> None:
    side = matrix(200, columns, 100)
    gram = to_numpy(bases._gram(side))
    np.testing.assert_allclose(gram, to_numpy(side).T @ to_numpy(side), atol=1e-15 * 200)
    assert (gram == gram.T).all()


@pytest.mark.parametrize("kind", SIDES)
def test_the_triangle_keeps_the_norm_of_every_product(kind: str) -> None:
    side = SIDES[kind](40, 6)
    x = torch.from_numpy(np.random.default_rng(2).standard_normal((6, 3)))
    ours = np.linalg.norm(to_numpy(triangle(side) @ x) / 1e150)
    assert ours == pytest.approx(np.linalg.norm(to_numpy(side @ x) / 1e150), rel=1e-12)


# The optimum is held against numpy's SVD of the dense delta, which uses no basis of ours.


def both(up: torch.Tensor, down: torch.Tensor, c: float = 1.0) -> tuple[float, LowRank]:
    return c, LowRank(up, down)


def of(*pairs: tuple[float, LowRank]) -> Delta:
    first = pairs[0][1]
    return Delta((first.up.shape[0], first.down.shape[1]), tuple(Term(c, f) for c, f in pairs))


def close(a: LowRank, by: float) -> tuple[tuple[float, LowRank], ...]:
    """``A - A'`` where A' is A but for a relative ``by`` in every number."""
    rng = np.random.default_rng(5)
    nearly = LowRank(*(t * (1 + by * torch.from_numpy(rng.standard_normal(t.shape))) for t in (a.up, a.down)))
    return (1.0, a), (-1.0, nearly)


A = LowRank(matrix(60, 8, 10, 1), matrix(50, 8, 10, 2).T.contiguous())
DELTAS = {
    "well-conditioned": of((1.0, A), both(matrix(60, 6, 10, 3), matrix(50, 6, 10, 4).T, -0.4)),
    "up of condition 1e3": of(both(matrix(60, 12, 1e3, 3), matrix(50, 12, 10, 4).T)),
    "up of condition 1e12": of(both(matrix(60, 12, 1e12, 3), matrix(50, 12, 10, 4).T)),
    "both of condition 1e12": of(both(matrix(60, 12, 1e12, 3), matrix(50, 12, 1e12, 4).T)),
    "one side rank-deficient": of(both(repeated(60, 12), matrix(50, 12, 10, 4).T)),
    "both rank-deficient": of((1.0, A), (0.3, A)),
    "nearly cancelling scales": of((1.0, A), (-(1 + 1e-6), A), both(matrix(60, 4, 9), matrix(50, 4, 9).T)),
    "nearly cancelling factors": of(*close(A, 1e-6)),
    "rank above the columns": of((1.0, A), both(matrix(60, 50, 100, 3), matrix(50, 50, 100, 4))),
}


def dense_of(value: Delta) -> Matrix:
    total = np.zeros(value.shape)
    for term in value.terms:
        pair = term.structure.load()
        total += term.coefficient * to_numpy(pair.up) @ to_numpy(pair.down)
    return total


@pytest.mark.parametrize("kind", DELTAS)
@pytest.mark.parametrize("rank", [1, 4, 7])
def test_the_error_is_within_1_0001_of_the_optimum(kind: str, rank: int) -> None:
    value = DELTAS[kind]
    exact = dense_of(value)
    best = np.linalg.norm(np.linalg.svd(exact, compute_uv=False)[rank:])
    found = compact_svd(value).factors(rank)
    error = np.linalg.norm(to_numpy(found.up) @ to_numpy(found.down) - exact)
    # What float64 cannot tell apart: the rounding of the terms themselves.
    floor = 1e-15 * sum(abs(t.coefficient) for t in value.terms) * 60
    assert error <= 1.0001 * best + floor


@pytest.mark.parametrize("kind", DELTAS)
def test_the_path_by_reflections_finds_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = DELTAS[kind]
    ours = compact_svd(value)
    monkeypatch.setattr(bases, "_gram_basis", lambda side: None)
    theirs = compact_svd(value)
    np.testing.assert_allclose(to_numpy(ours.s), to_numpy(theirs.s), rtol=1e-9, atol=1e-13)
    for rank in (1, 4):
        a, b = ours.factors(rank), theirs.factors(rank)
        np.testing.assert_allclose(to_numpy(a.up @ a.down), to_numpy(b.up @ b.down), atol=1e-9)


@pytest.mark.parametrize("kind", DELTAS)
def test_the_core_has_the_singular_values_of_the_delta(kind: str) -> None:
    ours = np.linalg.svd(to_numpy(core(DELTAS[kind])), compute_uv=False)
    exact = np.linalg.svd(dense_of(DELTAS[kind]), compute_uv=False)
    np.testing.assert_allclose(ours[: len(exact)], exact[: len(ours)], atol=1e-14)


@settings(max_examples=30, deadline=None)
@given(
    exponent=st.floats(0, 14),
    rows=st.integers(3, 40),
    ranks=st.integers(2, 12),
    keep=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_at_any_condition_the_optimum_is_reached(
    exponent: float, rows: int, ranks: int, keep: int, seed: int
) -> None:
    side = matrix(max(rows, ranks), ranks, 10.0**exponent, seed)[:rows]
    value = of(both(side, matrix(30, ranks, 5, seed + 1).T))
    exact = dense_of(value)
    best = np.linalg.norm(np.linalg.svd(exact, compute_uv=False)[keep:])
    found = compact_svd(value).factors(keep)
    assert np.linalg.norm(to_numpy(found.up) @ to_numpy(found.down) - exact) <= 1.0001 * best + 1e-13


def test_more_columns_do_not_change_the_signs_of_the_first() -> None:
    svd = compact_svd(DELTAS["well-conditioned"])
    few, many = svd.vectors(3)[0], svd.vectors(9)[0]
    np.testing.assert_allclose(to_numpy(few), to_numpy(many[:, :3]), atol=1e-14)


def test_of_equal_peaks_the_first_is_positive() -> None:
    up = torch.tensor([[-1.0], [1.0], [0.5]], dtype=F64)
    found, _ = compact_svd(of(both(up, torch.ones(1, 4, dtype=F64)))).vectors()
    assert to_numpy(found)[:, 0].tolist() == pytest.approx([2 / 3, -2 / 3, -1 / 3])
