"""What is kept of a delta, and with what it is made good."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.weights.algebra.methods.pruning import dropped, kept, largest, stepped

from .kit import dense
from .peers import DENSITY, EPSILON, GAMMA, WEIGHTS, Matrix, coins, deltas, recorded


def top(matrix: Matrix, count: int) -> Matrix:
    """The places of the ``count`` largest magnitudes, the first of equal ones, by a plain stable sort."""
    order = np.argsort(-np.abs(matrix).ravel(), kind="stable")[:count]
    mask = np.zeros(matrix.size, dtype=bool)
    mask[order] = True
    return mask.reshape(matrix.shape)


def shown(coins: Matrix) -> Callable[[], torch.Tensor]:
    """Random numbers as a method asks for them."""
    return lambda: torch.from_numpy(coins)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(0, 45))
def test_the_largest_are_those_of_a_stable_sort_draws_too(values: list[int], count: int) -> None:
    matrix = np.array(values, dtype=float)[None]
    assert np.array_equal(largest(torch.from_numpy(matrix), count).numpy(), top(matrix, count))


@pytest.mark.parametrize("density", [0.01, 0.3, 0.6, 0.999, 1.0])
def test_so_many_values_stay_and_at_least_one(density: float) -> None:
    matrix = deltas()[0]
    found = kept(torch.from_numpy(matrix), density).numpy()
    assert np.count_nonzero(found) == max(1, int(density * matrix.size))
    assert np.array_equal(found[found != 0], matrix[found != 0])
    assert np.array_equal(found, np.where(top(matrix, max(1, int(density * matrix.size))), matrix, 0.0))


@pytest.mark.parametrize("program", ["mergekit", "peft"])
def test_magnitude_prune_is_the_peers(program: str) -> None:
    np.testing.assert_allclose(
        dense("magnitude-prune", deltas(), WEIGHTS, density=DENSITY),
        recorded(program)["magnitude-prune"],
        atol=1e-11,
    )


def test_dare_linear_is_pefts_given_its_coins() -> None:
    found = dense("dare-linear", deltas(), WEIGHTS, density=DENSITY)
    np.testing.assert_allclose(found, recorded("peft")["dare-linear"], atol=1e-6)
    exact = sum(
        w * (coin < DENSITY) * delta / DENSITY
        for w, coin, delta in zip(WEIGHTS, coins(), deltas(), strict=True)
    )
    np.testing.assert_allclose(found, exact, atol=1e-14)


def test_breadcrumbs_are_mergekits() -> None:
    found = dense("breadcrumbs", deltas(), WEIGHTS, density=DENSITY, gamma=GAMMA)
    np.testing.assert_allclose(found, recorded("mergekit")["breadcrumbs"], atol=1e-11)


def test_breadcrumbs_drop_the_largest_and_then_the_smallest() -> None:
    line = np.array([[5.0, -1.0, 4.0, 0.5, -3.0, 2.0, 0.1, 6.0, -7.0, 0.2]])
    found = dense("breadcrumbs", [line], [1.0], density=0.5, gamma=0.2)
    assert found.tolist() == [[5.0, -1.0, 4.0, 0.0, -3.0, 2.0, 0.0, 0.0, 0.0, 0.0]]


def test_breadcrumbs_keep_their_density_where_the_largest_would_be_missed() -> None:
    line = np.arange(1.0, 11.0)[None]
    found = dense("breadcrumbs", [line], [1.0], density=0.9, gamma=0.5)
    assert found.tolist() == [[*range(1, 10), 0]]


def test_della_keeps_what_mergekit_keeps_given_the_same_coins() -> None:
    masks = recorded("mergekit")["della masks"]
    for delta, coin, mask in zip(deltas(), coins(), masks, strict=True):
        found = stepped(torch.from_numpy(delta), DENSITY, EPSILON, shown(coin)).numpy()
        assert np.array_equal(found != 0, mask != 0)


def test_dellas_chances_rise_with_the_rank_in_a_row_and_are_divided_by() -> None:
    """The chance of a value is found out by raising its coin until it falls."""
    delta = deltas()[1]
    rank = np.abs(delta).argsort(axis=1).argsort(axis=1)
    chance = DENSITY - EPSILON + 2 * EPSILON * rank / (delta.shape[1] - 1)
    for coin, here in ((chance - 1e-9, delta / chance), (chance + 1e-9, 0.0 * delta)):
        found = stepped(torch.from_numpy(delta), DENSITY, EPSILON, shown(coin))
        np.testing.assert_allclose(found.numpy(), here, rtol=1e-12)


def test_a_row_of_one_value_has_the_density_itself() -> None:
    column = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    found = stepped(column, 0.5, 0.3, lambda: torch.tensor([[0.49], [0.51]], dtype=torch.float64))
    assert found.tolist() == [[2.0], [0.0]]


@pytest.mark.parametrize("epsilon", [None, 0.3])
def test_dropping_at_random_leaves_the_mean_and_keeps_its_density(epsilon: float | None) -> None:
    """Of 4000 draws: within five standard errors, value by value."""
    rng = np.random.default_rng(5)
    delta = torch.from_numpy(rng.standard_normal((4, 6)))
    total, held = torch.zeros_like(delta), 0
    for _ in range(4000):
        coin = shown(rng.random((4, 6)))
        drop = dropped(delta, 0.4, coin) if epsilon is None else stepped(delta, 0.4, epsilon, coin)
        total += drop
        held += int(torch.count_nonzero(drop))
    least = 0.4 - (epsilon or 0.0)
    error = delta.abs() * ((1 / least - 1) / 4000) ** 0.5
    assert bool(((total / 4000 - delta).abs() <= 5 * error).all())
    assert held / (4000 * 24) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("method", ["magnitude-prune", "dare-linear", "breadcrumbs"])
def test_density_one_is_the_weighted_sum(method: str) -> None:
    exact = sum(w * delta for w, delta in zip(WEIGHTS, deltas(), strict=True))
    np.testing.assert_allclose(dense(method, deltas(), WEIGHTS, density=1.0), exact, atol=1e-14)


@pytest.mark.parametrize("method", ["magnitude-prune", "breadcrumbs"])
def test_the_order_of_terms_does_not_matter(method: str) -> None:
    one = dense(method, deltas(), WEIGHTS, density=0.4)
    two = dense(method, deltas()[::-1], WEIGHTS[::-1], density=0.4)
    np.testing.assert_allclose(one, two, atol=1e-14)


def test_a_negative_weight_takes_off_what_a_positive_one_adds() -> None:
    one = dense("magnitude-prune", deltas()[:1], [0.7], density=0.4)
    two = dense("magnitude-prune", deltas()[:1], [-0.7], density=0.4)
    assert np.array_equal(one, -two)
