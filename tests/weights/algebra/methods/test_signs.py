"""One sign is elected for each value, and those that have it are averaged."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

from lorapipe.weights.inference.methods import Settings

from .kit import dense, factored, low_rank
from .peers import DENSITY, EPSILON, WEIGHTS, Matrix, coins, deltas, recorded


def elect(
    thinned: list[Matrix], weights: tuple[float, ...] = (), elect: str = "total", normalize: str = "mean"
) -> Matrix:
    """The papers' disjoint merge, value by value, written out."""
    made = np.zeros_like(thinned[0])
    for place in np.ndindex(made.shape):
        values = [float(delta[place]) for delta in thinned]
        vote = sum(values) if elect == "total" else sum(np.sign(values))
        sign = 1.0 if vote >= 0 else -1.0
        agree = [i for i, value in enumerate(values) if np.sign(value) == sign]
        if agree:
            total = sum(values[i] for i in agree)
            shares = {
                "mean": len(agree),
                "none": 1,
                "weights": sum(abs(weights[i]) for i in agree) if weights else 1,
            }
            made[place] = total / shares[normalize]
    return made


def trimmed(delta: Matrix, density: float) -> Matrix:
    least = np.sort(np.abs(delta).ravel())[::-1][int(density * delta.size) - 1]
    return np.where(np.abs(delta) >= least, delta, 0.0)


@pytest.mark.parametrize("rule", ["total", "frequency"])
@pytest.mark.parametrize("normalize", ["mean", "weights", "none"])
def test_ties_is_the_papers_algorithm(rule: str, normalize: str) -> None:
    weights = (1.0, -0.5, 0.25)
    thinned = [w * trimmed(delta, DENSITY) for w, delta in zip(weights, deltas(), strict=True)]
    found = dense("ties", deltas(), weights, density=DENSITY, elect=rule, normalize=normalize)
    np.testing.assert_allclose(found, elect(thinned, weights, rule, normalize), atol=1e-14)


@pytest.mark.parametrize(("rule", "name"), [("total", "ties"), ("frequency", "ties frequency")])
def test_ties_is_pefts_and_mergekits(rule: str, name: str) -> None:
    mean = dense("ties", deltas(), WEIGHTS, density=DENSITY, elect=rule)
    np.testing.assert_allclose(mean, recorded("peft")[name], atol=1e-11)
    shares = dense("ties", deltas(), WEIGHTS, density=DENSITY, elect=rule, normalize="weights")
    np.testing.assert_allclose(shares, recorded("mergekit")[name], atol=1e-11)


def test_dare_ties_is_pefts_given_its_coins() -> None:
    found = dense("dare-ties", deltas(), WEIGHTS, density=DENSITY)
    np.testing.assert_allclose(found, recorded("peft")["dare-ties"], atol=1e-6)


def test_della_drops_elects_and_fuses() -> None:
    thinned = []
    for weight, delta, coin in zip(WEIGHTS, deltas(), coins(), strict=True):
        rank = np.abs(delta).argsort(axis=1).argsort(axis=1)
        chance = DENSITY - EPSILON + 2 * EPSILON * rank / (delta.shape[1] - 1)
        thinned.append(weight * np.where(coin < chance, delta / chance, 0.0))
    found = dense("della", deltas(), WEIGHTS, density=DENSITY, epsilon=EPSILON)
    np.testing.assert_allclose(found, elect(thinned), atol=1e-13)


def test_a_draw_elects_plus_and_zeros_do_not_count() -> None:
    one, two = np.array([[2.0, 0.0, -3.0, 0.0]]), np.array([[-2.0, -1.0, -1.0, 0.0]])
    assert dense("ties", [one, two], [1.0, 1.0]).tolist() == [[2.0, -1.0, -2.0, 0.0]]
    assert dense("ties", [one, two], [1.0, 1.0], elect="frequency").tolist() == [[2.0, -1.0, -2.0, 0.0]]


def test_a_strength_stays_one_where_only_one_term_speaks() -> None:
    one, two = np.array([[4.0, 0.0]]), np.array([[0.0, 4.0]])
    assert dense("ties", [one, two], [0.5, 1.0]).tolist() == [[2.0, 4.0]]
    assert dense("ties", [one, two], [0.5, 1.0], normalize="weights").tolist() == [[4.0, 4.0]]


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("said", [{}, {"elect": "frequency"}, {"normalize": "weights"}])
def test_the_order_of_terms_does_not_matter_to_ties(order: tuple[int, ...], said: dict[str, Any]) -> None:
    straight = dense("ties", deltas(), WEIGHTS, density=0.4, **said)
    turned = dense("ties", [deltas()[i] for i in order], [WEIGHTS[i] for i in order], density=0.4, **said)
    np.testing.assert_allclose(turned, straight, atol=1e-14)


def knots(given: list[Matrix], weights: list[float], density: float) -> Matrix:
    """The paper's steps with dense matrices and numpy's SVD."""
    u, s, vt = np.linalg.svd(
        np.hstack([w * d for w, d in zip(weights, given, strict=True)]), full_matrices=False
    )
    real = s > 1e-9 * s[0]
    parts = np.hsplit(s[real, None] * vt[real], len(given))
    merged: Matrix = u[:, real] @ elect([trimmed(part, density) for part in parts])
    return merged


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, -0.5, 0.3]])
def test_knots_is_ties_in_the_basis_that_all_share(weights: list[float]) -> None:
    parts = [low_rank((9, 12), rank, seed) for seed, rank in enumerate((2, 3, 1))]
    found = factored("knots", parts, weights, density=0.5)
    dense_parts = [part.dense(torch.float64).numpy() for part in parts]
    np.testing.assert_allclose(
        found.dense(torch.float64).numpy(), knots(dense_parts, weights, 0.5), atol=1e-10
    )
    assert found.rank == 6


def test_knots_has_no_more_ranks_than_there_are_directions() -> None:
    part = low_rank((9, 12), 3, 0)
    found = factored("knots", [part, part], [1.0, 0.5], density=1.0)
    assert found.rank == 3
    np.testing.assert_allclose(found.dense(torch.float64), 0.75 * part.dense(torch.float64), atol=1e-12)


def test_knots_of_nothing_is_nothing() -> None:
    part = low_rank((4, 5), 2, 0)
    nothing = type(part)(part.up * 0.0, part.down)
    found = factored("knots", [nothing, nothing], [1.0, 1.0])
    assert not bool(found.dense(torch.float64).any())


def test_settings_say_whose_sign_wins() -> None:
    assert (Settings().elect, Settings().normalize) == ("total", "mean")
