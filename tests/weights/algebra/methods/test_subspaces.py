"""Later terms kept clear of those before: as vectors of all values, or of whole directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.weights.structures.structure import LowRank

from .kit import coefficients, factored, low_rank
from .peers import Matrix, deltas


def dense(factors: LowRank) -> Matrix:
    array: Matrix = factors.dense(torch.float64).numpy()
    return array


def test_orthogonal_takes_off_what_points_the_same_way() -> None:
    one, two = deltas()[:2]
    first, second = coefficients("orthogonal", [one, two], (1.0, 0.5))
    exact = one + 0.5 * (two - (one * two).sum() / (one * one).sum() * one)
    np.testing.assert_allclose(first * one + second * two, exact, atol=1e-13)


def test_orthogonal_of_three_is_gram_and_schmidts() -> None:
    weights = (1.0, -0.5, 2.0)
    q, _ = np.linalg.qr(np.stack([delta.ravel() for delta in deltas()], axis=1))
    exact = np.zeros(deltas()[0].size)
    for index, (weight, delta) in enumerate(zip(weights, deltas(), strict=True)):
        exact += weight * (delta.ravel() - q[:, :index] @ (q[:, :index].T @ delta.ravel()))
    found = coefficients("orthogonal", deltas(), weights)
    made = sum(c * delta.ravel() for c, delta in zip(found, deltas(), strict=True))
    np.testing.assert_allclose(made, exact, atol=1e-12)


def test_a_term_that_those_before_span_adds_nothing() -> None:
    one, two, _ = deltas()
    assert coefficients("orthogonal", [one, -3.0 * one], (1.0, 1.0)) == pytest.approx([1.0, 0.0], abs=1e-12)
    found = coefficients("orthogonal", [one, two, one + two], (1.0, 1.0, 1.0))
    assert found == pytest.approx([*coefficients("orthogonal", [one, two], (1.0, 1.0)), 0.0], abs=1e-12)


def projector(before: list[Matrix], count: int | None, *, rows: bool) -> Matrix:
    """Onto the leading singular directions of all deltas before, by dense SVDs."""
    spans = []
    for delta in before:
        u, s, vt = np.linalg.svd(delta)
        real = int((s > 1e-10 * s[0]).sum())
        kept = real if count is None else min(count, real)
        spans.append(vt[:kept].T if rows else u[:, :kept])
    q, r = np.linalg.qr(np.hstack(spans))
    q = q[:, np.abs(np.diag(r)) > 1e-10]
    made: Matrix = q @ q.T
    return made


@pytest.mark.parametrize("side", ["input", "output", "both"])
@pytest.mark.parametrize("projection", [1.0, 0.5])
@pytest.mark.parametrize("directions", [None, 1, 2])
def test_null_space_takes_off_the_directions_of_those_before(
    side: str, projection: float, directions: int | None
) -> None:
    parts = [low_rank((9, 12), rank, seed) for seed, rank in enumerate((2, 3, 2))]
    weights = (1.0, 0.5, -2.0)
    exact = np.zeros((9, 12))
    for index, (weight, part) in enumerate(zip(weights, parts, strict=True)):
        delta, before = dense(part), [dense(other) for other in parts[:index]]
        if before and side != "output":
            delta = delta @ (np.eye(12) - projection * projector(before, directions, rows=True))
        if before and side != "input":
            delta = (np.eye(9) - projection * projector(before, directions, rows=False)) @ delta
        exact += weight * delta
    found = factored("null-space", parts, weights, side=side, projection=projection, directions=directions)
    np.testing.assert_allclose(dense(found), exact, atol=1e-10)
    assert found.rank == 7


def test_what_the_first_reads_from_is_what_the_second_is_blind_to() -> None:
    one, two = low_rank((9, 12), 2, 0), low_rank((9, 12), 3, 1)
    found = factored("null-space", [one, two], (1.0, 1.0))
    np.testing.assert_allclose((dense(found) - dense(one)) @ one.down.numpy().T, 0.0, atol=1e-10)


def test_all_directions_taken_leave_nothing_of_the_same_delta() -> None:
    one = low_rank((9, 12), 2, 0)
    found = factored("null-space", [one, one], (1.0, 1.0))
    np.testing.assert_allclose(dense(found), dense(one), atol=1e-12)
