"""Factors added, and not deltas: what others call linear, cross terms and all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from .kit import factored, low_rank


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.7, -0.4), (-1.0, 0.25)])
def test_the_factors_are_summed_by_the_roots_of_the_weights_signs_in_down(
    weights: tuple[float, float],
) -> None:
    one, two = low_rank((5, 6), 3, 1), low_rank((5, 6), 3, 2)
    found = factored("linear-factors", [one, two], weights)
    roots = np.sqrt(np.abs(weights))
    up = roots[0] * one.up.numpy() + roots[1] * two.up.numpy()
    down = sum(np.sign(w) * r * f.down.numpy() for w, r, f in zip(weights, roots, (one, two), strict=True))
    np.testing.assert_allclose(found.up.numpy(), up, rtol=1e-14)
    np.testing.assert_allclose(found.down.numpy(), down, rtol=1e-14)


def test_one_alone_is_its_delta_times_the_weight() -> None:
    one = low_rank((5, 6), 3, 1)
    found = factored("linear-factors", [one], (-0.6,))
    torch.testing.assert_close(found.dense(torch.float64), -0.6 * one.dense(torch.float64))


def test_the_order_of_terms_does_not_matter() -> None:
    one, two = low_rank((5, 6), 3, 1), low_rank((5, 6), 3, 2)
    torch.testing.assert_close(
        factored("linear-factors", [one, two], (0.7, -0.4)).dense(torch.float64),
        factored("linear-factors", [two, one], (-0.4, 0.7)).dense(torch.float64),
    )
