"""SCE: select, calculate, erase."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from .kit import dense
from .peers import DENSITY, Matrix, deltas, recorded


def sce(given: list[Matrix], density: float) -> Matrix:
    """The paper's steps, place by place."""
    variance = np.var(np.stack(given), axis=0)
    count = int(density * np.count_nonzero(variance))
    mask = np.zeros(variance.size, dtype=bool)
    mask[np.argsort(-variance.ravel(), kind="stable")[:count]] = True
    selected = [np.where(mask.reshape(variance.shape), delta, 0.0) for delta in given]
    shares = np.array([(delta**2).sum() for delta in selected])
    shares = shares / shares.sum()
    made: Matrix = np.zeros_like(variance)
    for place in np.ndindex(made.shape):
        values = np.array([delta[place] for delta in selected])
        sign = 1.0 if values.sum() >= 0 else -1.0
        agree = np.sign(values) == sign
        if agree.any():
            made[place] = (values * shares)[agree].sum() / shares[agree].sum()
    return made


@pytest.mark.parametrize("density", [0.3, 0.6])
def test_sce_is_the_papers(density: float) -> None:
    weights = (1.0, -0.5, 0.25)
    exact = sce([w * delta for w, delta in zip(weights, deltas(), strict=True)], density)
    np.testing.assert_allclose(dense("sce", deltas(), weights, density=density), exact, atol=1e-13)


def test_sce_is_mergekits() -> None:
    found = dense("sce", deltas(), (1.0, 1.0, 1.0), density=DENSITY)
    np.testing.assert_allclose(found, recorded("mergekit")["sce"], atol=1e-11)


def test_small_deltas_have_the_shares_of_large_ones() -> None:
    """mergekit takes equal shares where squares are below 1e-6, which those of LoRAs are."""
    large = dense("sce", deltas(), (1.0, 0.5, 2.0), density=0.5)
    small = dense("sce", [delta * 2.0**-20 for delta in deltas()], (1.0, 0.5, 2.0), density=0.5)
    np.testing.assert_allclose(small * 2.0**20, large, rtol=1e-13)


def test_where_all_agree_nothing_is_selected_unless_all_is() -> None:
    one = deltas()[0]
    assert not dense("sce", [one, one], (1.0, 1.0), density=0.5).any()
    np.testing.assert_allclose(dense("sce", [one, one], (1.0, 1.0), density=1.0), one, rtol=1e-14)


def test_a_term_of_zeros_is_one_that_lacks_the_module() -> None:
    one = deltas()[0]
    found = dense("sce", [one, 0.0 * one], (1.0, 1.0), density=0.4)
    assert np.count_nonzero(found) == int(0.4 * one.size)
    np.testing.assert_allclose(found[found != 0], one[found != 0], rtol=1e-14)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_of_terms_does_not_matter(order: tuple[int, ...]) -> None:
    turned = dense("sce", [deltas()[i] for i in order], (1.0, 1.0, 1.0), density=0.5)
    np.testing.assert_allclose(turned, dense("sce", deltas(), (1.0, 1.0, 1.0), density=0.5), atol=1e-13)
