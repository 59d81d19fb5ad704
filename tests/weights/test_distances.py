"""Distances of weights as vectors: held against numpy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.weights.distances import Distance, total

VECTOR = st.lists(st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-3), min_size=3, max_size=3).map(np.array)


def distance(a: np.ndarray, b: np.ndarray) -> Distance:
    return Distance(*(float(np.linalg.norm(x)) for x in (a, b, a - b)))


@given(VECTOR, VECTOR)
def test_relative_change_and_cosine_are_those_of_the_vectors(a: np.ndarray, b: np.ndarray) -> None:
    found = distance(a, b)
    assert found.relative == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(a))
    assert found.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-9)
    assert -1.0 <= found.cosine <= 1.0


@given(st.lists(st.tuples(VECTOR, VECTOR), max_size=4))
def test_several_are_one_long_vector(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    found = total(distance(a, b) for a, b in pairs)
    a, b = (np.concatenate([pair[side] for pair in pairs] or [np.zeros(1)]) for side in (0, 1))
    expected = distance(a, b)
    for name in ("old", "new", "apart"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-12)


def test_what_came_out_of_nothing_changed_without_bound_and_has_no_cosine() -> None:
    assert (Distance(0.0, 2.0, 2.0).relative, Distance(0.0, 2.0, 2.0).cosine) == (math.inf, None)
    assert (Distance(2.0, 0.0, 2.0).relative, Distance(2.0, 0.0, 2.0).cosine) == (1.0, None)
    assert Distance(1.0, math.inf, math.inf).cosine is None
    assert Distance(1.0, 1.0, math.inf).cosine is None
    assert (Distance().relative, Distance().cosine) == (0.0, None)


def test_norms_whose_squares_are_beyond_float64_are_compared() -> None:
    assert Distance(3e-200, 3e-200, 3e-200).cosine == pytest.approx(0.5)
    assert Distance(3e200, 3e200, 0.0).cosine == 1.0
