"""Norms and errors without the dense delta, right even where terms nearly cancel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorapipe.weights.algebra.measure import norm, relative_error
from lorapipe.weights.structures.delta import Delta, Term
from tests.weights.samples import delta, dense, error, factors
from tests.weights.sorts import SORTS, full, loha, plain, summed


@pytest.mark.parametrize("shape", [(12, 10), (9, 5, 3, 3), (3, 40), (40, 3)])
def test_norm_is_the_frobenius_norm(shape: tuple[int, ...]) -> None:
    value = delta(shape, (0.5, 3), (-2.0, 4))
    assert norm(value) == pytest.approx(np.linalg.norm(dense(value)), rel=1e-13)


def test_the_norm_of_a_near_cancelling_difference_keeps_its_digits() -> None:
    once = factors((30, 20), 3, 0)
    value = Delta((30, 20), (Term(1.0, once), Term(-(1 - 2**-30), once)))
    single = float(np.linalg.norm(dense(Delta((30, 20), (Term(1.0, once),)))))
    assert norm(value) == pytest.approx(2**-30 * single, rel=1e-5)


def test_relative_error_is_the_measure_of_the_design() -> None:
    a, b, result = (
        delta((12, 10), (0.5, 3)),
        delta((12, 10), (1.0, 4), seed=3),
        delta((12, 10), (1.0, 2), seed=9),
    )
    expected = error(dense(result), [(0.7, dense(a)), (-0.4, dense(b))])
    assert relative_error(result, [(0.7, a), (-0.4, b)]) == pytest.approx(expected, rel=1e-12)


def test_a_right_result_has_no_error() -> None:
    a = delta((12, 10), (0.5, 3))
    assert relative_error(a.scaled(0.7), [(0.7, a)]) < 1e-15


def test_of_nothing_the_error_is_what_is_there() -> None:
    a = delta((12, 10), (0.5, 3))
    assert relative_error(a.scaled(0.0), [(0.0, a)]) == 0.0


@pytest.mark.parametrize("sort", SORTS)
def test_the_norm_of_every_structure_is_that_of_its_matrix(sort: str) -> None:
    sample = SORTS[sort](5, torch.float32)
    assert norm(sample.delta(-0.5)) == pytest.approx(0.5 * np.linalg.norm(sample.matrix), rel=1e-12)


def test_the_error_of_a_sum_of_structures_is_relative_to_each() -> None:
    terms = [(0.5, loha(12, 10)), (-2.0, full(12, 10)), (1.0, plain(12, 10))]
    value, matrix = summed(terms)
    found = relative_error(plain(12, 10, seed=9).delta(), [(c, s.delta()) for c, s in terms])
    expected = error(plain(12, 10, seed=9).matrix, [(c, s.matrix) for c, s in terms])
    assert found == pytest.approx(expected, rel=1e-12)
    assert norm(value) == pytest.approx(np.linalg.norm(matrix), rel=1e-12)
