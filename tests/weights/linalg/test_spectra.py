"""Singular values and nearest matrices of lower rank, against numpy's SVD."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.errors import BuildError
from lorapipe.weights.linalg import spectra as under_test
from lorapipe.weights.linalg.spectra import leading_spectrum, low_rank, sketch, spectral_norm, spectrum
from lorapipe.weights.structures.structure import LowRank
from tests.weights.samples import Matrix, to_numpy

SHAPES = [(12, 12), (9, 31), (31, 9), (5, 400), (400, 5), (1, 7), (7, 1), (1, 1)]


def matrix(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def falling(rows: int, columns: int, power: float = 1.0) -> torch.Tensor:
    """Random vectors, values that fall as ``i^-power``: about what training leaves."""
    rng = np.random.default_rng(1)
    size = min(rows, columns)
    u, v = (np.linalg.qr(rng.standard_normal((n, size)))[0] for n in (rows, columns))
    return torch.from_numpy((u * np.arange(1, size + 1.0) ** -power) @ v.T)


def values(exact: torch.Tensor) -> Matrix:
    found: Matrix = np.linalg.svd(exact.numpy(), compute_uv=False)
    return found


def product(factors: LowRank) -> Matrix:
    found: Matrix = to_numpy(factors.up) @ to_numpy(factors.down)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_the_values_are_those_of_the_svd(shape: tuple[int, int]) -> None:
    exact = matrix(shape)
    np.testing.assert_allclose(spectrum(exact).s.numpy(), values(exact), rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_matrix_of_a_rank_is_nearer(shape: tuple[int, int]) -> None:
    exact = matrix(shape)
    found = spectrum(exact)
    for rank in {1, min(shape) // 2 or 1, min(shape)}:
        least = np.linalg.norm(values(exact)[rank:])
        error = np.linalg.norm(product(found.factors(rank)) - exact.numpy())
        assert error == pytest.approx(least, rel=1e-9, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 99), st.integers(0, 3))
def test_all_vectors_give_the_matrix_again(rows: int, columns: int, seed: int, lost: int) -> None:
    """Of lower rank than it looks, too."""
    exact = matrix((rows, max(1, columns - lost)), seed) @ matrix((max(1, columns - lost), columns), seed + 1)
    found = spectrum(exact)
    rank = int((found.s > 1e-12 * found.s[0]).sum())
    np.testing.assert_allclose(product(found.factors(rank)), exact.numpy(), atol=1e-12 * float(found.s[0]))


def test_factors_are_balanced_and_their_signs_are_told_by_up() -> None:
    for shape in ((20, 50), (50, 20), (20, 20)):
        factors = spectrum(matrix(shape)).factors(4)
        lengths = torch.linalg.vector_norm(factors.up, dim=0), torch.linalg.vector_norm(factors.down, dim=1)
        np.testing.assert_allclose(lengths[0], lengths[1], rtol=1e-12)
        peaks = factors.up.gather(0, factors.up.abs().argmax(dim=0, keepdim=True))
        assert bool((peaks > 0).all())


def test_a_long_matrix_is_taken_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    qr = torch.linalg.qr

    def counted(a: torch.Tensor, mode: str = "reduced") -> object:
        sizes.append(a.shape[0])
        return qr(a, mode=mode)

    monkeypatch.setattr(torch.linalg, "qr", counted)
    spectrum(matrix((6, 1000)))
    assert max(sizes) == (under_test._STEPS + 1) * 6
    assert len(sizes) > 30


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (60, 60)])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_a_sketch_is_nearly_the_best(shape: tuple[int, int], power: float) -> None:
    exact = falling(*shape, power)
    for rank in (2, 8):
        factors = sketch(exact, rank, "m").factors(rank)
        least = np.linalg.norm(values(exact)[rank:])
        assert least <= np.linalg.norm(product(factors) - exact.numpy()) * (1 + 1e-9)
        assert np.linalg.norm(product(factors) - exact.numpy()) < 1.002 * least


def test_a_sketch_of_all_vectors_is_exact() -> None:
    exact = matrix((12, 30))
    np.testing.assert_allclose(sketch(exact, 12, "m").s.numpy(), values(exact), rtol=1e-10)


def test_no_value_of_a_sketch_is_above_the_true_one() -> None:
    exact = falling(60, 80, 0.3)
    found = sketch(exact, 5, "m").s.numpy()
    assert len(found) == 5 + under_test._OVERSAMPLES
    assert np.all(found <= values(exact)[: len(found)] * (1 + 1e-12))


def test_a_sketch_follows_from_the_name_alone() -> None:
    exact = falling(60, 80, 0.3)
    one, again, other = (sketch(exact, 5, name).factors(5).up for name in ("a", "a", "b"))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("shape", [(40, 900), (900, 40), (64, 64)])
def test_a_matrix_of_few_ranks_is_known_by_what_is_left_of_it(shape: tuple[int, int]) -> None:
    exact = matrix((shape[0], 5), 1) @ matrix((5, shape[1]), 2) + 1e-12 * matrix(shape, 3)
    found = low_rank(exact, 5, "m", 1e-8)
    assert found is not None
    np.testing.assert_allclose(found.s[:5].numpy(), values(exact)[:5], rtol=1e-12)
    assert float(found.s[5]) < 1e-10
    s = values(exact)
    error = np.linalg.norm(product(found.factors(3)) - exact.numpy())
    assert error == pytest.approx(np.linalg.norm(s[3:]), rel=1e-9)


@pytest.mark.parametrize("negligible", [0.0, 1e-13, 9e-11])
def test_what_leaves_too_much_is_not_taken_for_of_few_ranks(negligible: float) -> None:
    exact = matrix((64, 5), 1) @ matrix((5, 70), 2) + 1e-12 * matrix((64, 70), 3)
    left = np.linalg.norm(values(exact)[5 + under_test._OVERSAMPLES :])
    assert 1e-11 < left < 9e-11
    assert (low_rank(exact, 5, "m", negligible) is None) is bool(negligible < left)
    assert low_rank(matrix((64, 70)), 5, "m", 1.0) is None


def test_in_float32_it_is_done_in_float32() -> None:
    for found in (spectrum(matrix((8, 20)).float()), sketch(matrix((8, 20)).float(), 2, "m")):
        assert found.factors(2).up.dtype == torch.float32


def test_what_lapack_cannot_do_is_an_error() -> None:
    with pytest.raises(BuildError) as caught:
        spectrum(torch.full((4, 4), float("nan"), dtype=torch.float64))
    assert caught.value.code == "no-svd"


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16)])
@pytest.mark.parametrize("rank", [1, 5, 12])
def test_leading_vectors_give_the_nearest_factors(shape: tuple[int, int], rank: int) -> None:
    exact = matrix(shape)
    found = leading_spectrum(exact, rank)
    np.testing.assert_allclose(to_numpy(found.s), values(exact), rtol=1e-12)
    error = np.linalg.norm(to_numpy(exact - found.factors(rank).dense(torch.float64)))
    assert error <= (1 + 1e-12) * np.linalg.norm(values(exact)[rank:]) + 1e-12


@pytest.mark.parametrize("small", [1e-3, 1e-4, 1e-6, 1e-12, 0.0])
def test_a_wanted_value_too_small_for_a_gram_matrix_is_found_without_one(small: float) -> None:
    """Of 1e-6 the Gram matrix has four digits; the nearest of rank 4 must miss no part of it."""
    u, v = (torch.linalg.qr(matrix((20, 20), seed))[0] for seed in (1, 2))
    s = torch.tensor([1.0, 0.5, 0.25, small] + [0.0] * 16, dtype=torch.float64)
    exact = (u * s) @ v.T
    found = leading_spectrum(exact, 4)
    assert abs(float(found.s[3]) - small) < 1e-12
    real = 4 if small > 1e-14 else 3
    assert float(torch.linalg.vector_norm(exact - found.factors(real).dense(torch.float64))) < 1e-11


def test_leading_vectors_of_what_lapack_cannot_do_are_an_error() -> None:
    with pytest.raises(BuildError) as caught:
        leading_spectrum(torch.full((4, 4), float("nan"), dtype=torch.float64), 2)
    assert caught.value.code == "no-svd"


@pytest.mark.parametrize("shape", [(40, 40), (12, 90), (90, 12), (1, 5)])
def test_the_spectral_norm_is_the_largest_singular_value(shape: tuple[int, int]) -> None:
    """Also of a flat spectrum, where iterations are slow."""
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal(shape)
    flat = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    for one in (matrix, matrix * 1e-9, flat):
        assert spectral_norm(torch.from_numpy(one)) == pytest.approx(np.linalg.norm(one, 2), rel=1e-13)
    assert spectral_norm(torch.zeros(shape, dtype=torch.float64)) == 0.0
