"""Means of directions: peers' numbers, the geometry that defines them, and their edges."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from .kit import coefficients
from .peers import WEIGHTS, Matrix, deltas, recorded


def combined(method: str, given: list[Matrix], weights: tuple[float, ...], **said: float) -> Matrix:
    found = coefficients(method, given, weights, **said)
    made: Matrix = sum((c * d for c, d in zip(found, given, strict=True)), np.zeros_like(given[0]))
    return made


def angle(one: Matrix, two: Matrix) -> float:
    return float(np.arccos(np.clip((one * two).sum() / np.linalg.norm(one) / np.linalg.norm(two), -1, 1)))


def test_slerp_is_mergekits() -> None:
    found = combined("slerp", deltas()[:2], (1.0, 1.0), t=0.3)
    np.testing.assert_allclose(found, recorded("mergekit")["slerp"], atol=1e-11)


def test_nuslerp_is_mergekits() -> None:
    found = combined("nuslerp", deltas()[:2], (1.0, 0.5))
    np.testing.assert_allclose(found, recorded("mergekit")["nuslerp"], atol=1e-11)


def test_karcher_is_mergekits() -> None:
    found = combined("karcher", deltas(), WEIGHTS)
    np.testing.assert_allclose(found, recorded("mergekit")["karcher"], atol=1e-9)


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0])
def test_slerp_of_equal_lengths_keeps_the_length_and_shares_the_angle_out(t: float) -> None:
    one, two = (delta / np.linalg.norm(delta) for delta in deltas()[:2])
    found = combined("slerp", [one, two], (2.0, 2.0), t=t)
    assert np.linalg.norm(found) == pytest.approx(2.0)
    assert angle(found, one) == pytest.approx(t * angle(one, two), abs=1e-7)


def test_slerps_weights_are_strengths_and_turn_a_delta_round() -> None:
    one, two = deltas()[:2]
    np.testing.assert_allclose(
        combined("slerp", [one, two], (0.5, -2.0), t=0.3),
        combined("slerp", [0.5 * one, -2.0 * two], (1.0, 1.0), t=0.3),
        atol=1e-13,
    )


def test_nuslerps_weights_are_shares() -> None:
    assert coefficients("nuslerp", deltas()[:2], (1.0, 3.0)) == pytest.approx(
        coefficients("nuslerp", deltas()[:2], (0.1, 0.3))
    )
    assert coefficients("nuslerp", deltas()[:2], (1.0, 3.0)) == pytest.approx(
        coefficients("slerp", deltas()[:2], (1.0, 1.0), t=0.75)
    )


@pytest.mark.parametrize("method", ["slerp", "nuslerp"])
@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0])
def test_between_two_on_a_line_it_is_the_line(method: str, factor: float) -> None:
    one = deltas()[0]
    found = coefficients(method, [one, factor * one], (1.0, 1.0))
    assert found == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(("method", "alone"), [("slerp", 0.4), ("nuslerp", 1.0), ("karcher", 1.0)])
def test_one_alone_is_itself_by_strength_or_whole_by_share(method: str, alone: float) -> None:
    assert coefficients(method, deltas()[:1], (0.4,)) == pytest.approx([alone])


def test_the_karcher_mean_is_where_the_weighted_pulls_are_even() -> None:
    """Its definition: the sum of a_i log_m(u_i) is 0; and its length is the mean length."""
    found = combined("karcher", deltas(), WEIGHTS)
    mean = found / np.linalg.norm(found)
    shares = np.array(WEIGHTS) / sum(WEIGHTS)
    pull = np.zeros_like(mean)
    for share, delta in zip(shares, deltas(), strict=True):
        unit = delta / np.linalg.norm(delta)
        theta = angle(mean, unit)
        pull += share * theta / np.sin(theta) * (unit - np.cos(theta) * mean)
    assert np.linalg.norm(pull) < 1e-10
    lengths = [np.linalg.norm(delta) for delta in deltas()]
    assert np.linalg.norm(found) == pytest.approx(float(shares @ lengths))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_of_terms_does_not_matter_to_karcher(order: tuple[int, ...]) -> None:
    turned = combined("karcher", [deltas()[i] for i in order], tuple(WEIGHTS[i] for i in order))
    np.testing.assert_allclose(turned, combined("karcher", deltas(), WEIGHTS), atol=1e-11)


def test_karcher_of_two_is_the_arc_between_them() -> None:
    one, two = deltas()[:2]
    found = combined("karcher", [one, two], (1.0, 3.0))
    assert angle(found, one) == pytest.approx(0.75 * angle(one, two), abs=1e-7)


def test_karcher_of_opposites_stays_with_the_first_and_is_finite() -> None:
    one = deltas()[0]
    assert coefficients("karcher", [one, -1.0 * one], (1.0, 1.0)) == pytest.approx([1.0, 0.0])
    assert coefficients("karcher", [one, 2.0 * one], (1.0, 1.0)) == pytest.approx([0.75, 0.375])
