"""The factored SVD is the SVD of the dense delta, to float64's accuracy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.errors import BuildError
from lorapipe.weights.linalg.svd import compact_svd, core, singular_values
from lorapipe.weights.structures.delta import Delta, Term
from lorapipe.weights.structures.lazy import Lazy
from lorapipe.weights.structures.products import Kronecker
from lorapipe.weights.structures.structure import Dense, LowRank
from tests.weights.samples import delta, dense, factors, to_numpy
from tests.weights.sorts import SORTS, loha, lokr, plain, summed

F64 = torch.float64

CASES = {
    "low rank": ((30, 20), [(0.5, 3), (-2.0, 4)]),
    "convolution": ((12, 5, 3, 3), [(1.0, 6)]),
    "rank above the rows": ((6, 40), [(1.0, 10)]),
    "rank above the columns": ((40, 6), [(1.0, 10)]),
    "rank above both": ((8, 6), [(1.0, 9), (0.5, 9)]),
    "rank one": ((9, 7), [(3.0, 1)]),
    "one row": ((1, 7), [(3.0, 4)]),
}


@pytest.fixture(params=CASES, ids=str)
def value(request: pytest.FixtureRequest) -> Delta:
    shape, terms = CASES[request.param]
    return delta(shape, *terms)


def test_singular_values_are_those_of_the_dense_delta(value: Delta) -> None:
    s = to_numpy(compact_svd(value).s)
    expected = np.linalg.svd(dense(value), compute_uv=False)
    assert len(s) == min(value.rank, *dense(value).shape)
    np.testing.assert_allclose(s, expected[: len(s)], rtol=0, atol=1e-13 * expected[0])
    np.testing.assert_allclose(expected[len(s) :], 0, atol=1e-12 * expected[0])


def test_factors_multiply_to_the_delta(value: Delta) -> None:
    found = compact_svd(value).factors()
    np.testing.assert_allclose(to_numpy(found.up @ found.down), dense(value), atol=1e-12)


def test_vectors_are_orthonormal(value: Delta) -> None:
    svd = compact_svd(value)
    u, vt = svd.vectors()
    eye = np.eye(len(svd.s))
    np.testing.assert_allclose(to_numpy(u.T @ u), eye, atol=1e-12)
    np.testing.assert_allclose(to_numpy(vt @ vt.T), eye, atol=1e-12)


def test_the_largest_entry_of_each_column_is_positive(value: Delta) -> None:
    u = to_numpy(compact_svd(value).vectors()[0])
    assert (u[np.abs(u).argmax(axis=0), np.arange(u.shape[1])] > 0).all()


def test_factors_are_balanced() -> None:
    found = compact_svd(delta((12, 10), (1.0, 4))).factors()
    np.testing.assert_allclose(to_numpy(found.up.norm(dim=0)), to_numpy(found.down.norm(dim=1)), rtol=1e-12)


def test_a_rank_that_is_not_there_is_exactly_zero() -> None:
    once = factors((12, 10), 3, 0)
    svd = compact_svd(Delta((12, 10), (Term(0.7, once), Term(0.2, once))))
    assert (svd.s[:3] > 0.1).all()
    assert svd.s[3:].tolist() == [0.0, 0.0, 0.0]


def test_a_difference_of_equals_is_zero() -> None:
    once = factors((12, 10), 3, 0)
    svd = compact_svd(Delta((12, 10), (Term(1.0, once), Term(-1.0, once))))
    assert svd.s.tolist() == [0.0] * 6


def test_unbalanced_factors_lose_nothing_to_each_other() -> None:
    a, b = factors((12, 10), 2, 0, F64), factors((12, 10), 2, 1, F64)
    lopsided = Delta(
        (12, 10),
        (
            Term(1.0, LowRank(a.up * 2.0**40, a.down / 2.0**40)),
            Term(1.0, LowRank(b.up / 2.0**40, b.down * 2.0**40)),
        ),
    )
    even = Delta((12, 10), (Term(1.0, a), Term(1.0, b)))
    np.testing.assert_allclose(to_numpy(compact_svd(lopsided).s), to_numpy(compact_svd(even).s), rtol=1e-13)


def test_nothing_dense_is_formed_of_a_low_rank_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    svd = torch.linalg.svd

    def spy(matrix: torch.Tensor, *, full_matrices: bool) -> tuple[torch.Tensor, ...]:
        sizes.append(matrix.numel())
        return svd(matrix, full_matrices=full_matrices)

    monkeypatch.setattr(torch.linalg, "svd", spy)
    compact_svd(delta((300, 200), (1.0, 3), (1.0, 2)))
    assert sizes == [25]
    assert core(delta((300, 200), (1.0, 3), (1.0, 2))).shape == (5, 5)


def test_float32_is_computed_on_request() -> None:
    svd = compact_svd(delta((12, 10), (1.0, 4)), torch.float32)
    u, vt = svd.vectors()
    assert (u.dtype, svd.s.dtype, vt.dtype) == (torch.float32,) * 3
    np.testing.assert_allclose(to_numpy(u * svd.s @ vt), dense(delta((12, 10), (1.0, 4))), atol=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_factors_that_are_not_finite_are_an_error(bad: float) -> None:
    up = torch.ones(4, 2)
    up[1, 1] = bad
    with pytest.raises(BuildError) as caught:
        compact_svd(Delta((4, 4), (Term(1.0, LowRank(up, torch.ones(2, 4))),)))
    assert str(caught.value) == "error: NaN or Inf in the factors"


def test_equal_deltas_have_equal_svds_bit_for_bit() -> None:
    a, b = (compact_svd(delta((30, 20), (0.5, 3), (-2.0, 4))) for _ in range(2))
    for ours, theirs in zip(a.vectors(), b.vectors(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("coefficient", [1.0, -0.3])
def test_the_svd_of_every_structure_is_that_of_its_matrix(sort: str, coefficient: float) -> None:
    sample = SORTS[sort](5, torch.float32)
    value, matrix = sample.delta(coefficient), coefficient * sample.matrix
    svd = compact_svd(value)
    expected = np.linalg.svd(matrix, compute_uv=False)
    assert len(svd.s) == value.rank
    np.testing.assert_allclose(to_numpy(svd.s), expected[: value.rank], rtol=0, atol=1e-13 * expected[0])
    u, vt = svd.vectors()
    np.testing.assert_allclose(to_numpy((u * svd.s) @ vt), matrix, rtol=0, atol=1e-12)
    np.testing.assert_allclose(to_numpy(u.T @ u), np.eye(len(svd.s)), atol=1e-12)
    np.testing.assert_allclose(to_numpy(vt @ vt.T), np.eye(len(svd.s)), atol=1e-12)
    assert (to_numpy(u)[np.abs(to_numpy(u)).argmax(axis=0), np.arange(u.shape[1])] > 0).all()


def test_the_svd_of_a_sum_of_structures_is_that_of_the_sum() -> None:
    value, matrix = summed([(0.5, loha(12, 10)), (-2.0, lokr((2, 5), (6, 2))), (1.0, plain(12, 10, 8))])
    svd = compact_svd(value)
    np.testing.assert_allclose(to_numpy(svd.s), np.linalg.svd(matrix, compute_uv=False), rtol=1e-12)
    pair = svd.factors(4)
    u, s, vt = np.linalg.svd(matrix)
    np.testing.assert_allclose(to_numpy(pair.up @ pair.down), (u[:, :4] * s[:4]) @ vt[:4], atol=1e-12)


@pytest.mark.parametrize("count", [1, 5, 12])
def test_of_a_kronecker_product_only_the_vectors_that_are_kept_are_formed(count: int) -> None:
    sample = lokr((8, 8), (16, 16))
    pair = compact_svd(sample.delta()).factors(count)
    u, s, vt = np.linalg.svd(sample.matrix)
    assert (pair.up.shape, pair.down.shape) == ((128, count), (count, 128))
    expected = (u[:, :count] * s[:count]) @ vt[:count]
    np.testing.assert_allclose(to_numpy(pair.up @ pair.down), expected, atol=1e-11)


def test_values_of_a_kronecker_product_that_are_rounding_are_zero() -> None:
    sample = lokr((4, 4), (6, 6), (2, 3))
    low = lokr((4, 4), (6, 6), (4, 6))
    assert isinstance(low.structure, Kronecker)
    one, two = low.structure.one, low.structure.two
    assert isinstance(one, LowRank)
    assert isinstance(two, LowRank)
    doubled = Kronecker(
        LowRank(one.up[:, [0, 1, 0, 1]], one.down), LowRank(two.up[:, [0, 1, 2, 0, 1, 2]], two.down)
    )
    s = compact_svd(Delta((24, 24), (Term(1.0, doubled),))).s
    assert len(s) == 24
    assert int((s > 0).sum()) == 6 == len(compact_svd(sample.delta()).s)


def test_products_of_small_values_that_no_matrix_would_show_are_zero() -> None:
    half = Dense(torch.diag(torch.tensor([1.0, 1e-9], dtype=F64)))
    s = compact_svd(Delta((4, 4), (Term(1.0, Kronecker(half, half)),))).s
    np.testing.assert_allclose(s.tolist(), [1.0, 1e-9, 1e-9, 0.0], rtol=1e-12)


def test_a_kronecker_product_in_a_file_is_taken_by_its_halves_too() -> None:
    structure = lokr((4, 4), (6, 6)).structure
    lazily = Lazy(structure.shape, structure.rank, lambda: structure, plain=False)
    there, here = (compact_svd(Delta((24, 24), (Term(1.0, s),))) for s in (lazily, structure))
    assert type(there.left) is type(here.left)
    assert type(here.left) is not type(compact_svd(loha(24, 24).delta()).left)


def test_rows_of_a_kronecker_product_have_an_svd_too() -> None:
    sample = lokr((4, 4), (6, 6), (None, 2))
    s = compact_svd(sample.delta().rows(5, 16)).s
    expected = np.linalg.svd(sample.matrix[5:16], compute_uv=False)
    np.testing.assert_allclose(to_numpy(s), expected[: len(s)], atol=1e-12)


@pytest.mark.parametrize("sort", ["LoHa", "LoKr", "LoKr, all factors", "full difference", "Tucker 3x3"])
def test_bad_numbers_in_any_structure_are_refused(sort: str) -> None:
    value = SORTS[sort](5, torch.float32).delta()
    for tensor in value.terms[0].structure.load().written(1.0).tensors.values():
        tensor[0, 0] = float("nan")
    with pytest.raises(BuildError, match="NaN or Inf"):
        compact_svd(value)


@pytest.mark.parametrize("sort", SORTS)
def test_singular_values_alone_are_those_of_the_svd(sort: str) -> None:
    value = SORTS[sort](5, torch.float32).delta(-0.3)
    whole = to_numpy(compact_svd(value).s)
    alone = to_numpy(singular_values(value))
    assert alone == pytest.approx(whole, rel=1e-12, abs=1e-14 * whole[0])
    assert ((alone == 0.0) == (whole == 0.0)).all()


def test_singular_values_alone_are_those_of_low_rank_deltas_too(value: Delta) -> None:
    expected = np.linalg.svd(dense(value), compute_uv=False)
    assert to_numpy(singular_values(value)) == pytest.approx(
        expected[: min(value.rank, len(expected))], rel=1e-12, abs=1e-13 * expected[0]
    )


def test_of_no_rank_there_are_no_singular_values() -> None:
    nothing = Delta((6, 5), (Term(1.0, LowRank(torch.zeros(6, 0), torch.zeros(0, 5))),))
    assert singular_values(nothing).shape == compact_svd(nothing).s.shape == (0,)
