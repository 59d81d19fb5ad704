"""What follows from a module's singular values: norm, ranks, energy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.weights.figures import Figures, pooled, together

VALUES = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12).map(lambda v: tuple(sorted(v, reverse=True)))


@given(VALUES)
def test_figures_are_sums_of_squares(values: tuple[float, ...]) -> None:
    squares = np.array(values) ** 2
    one = Figures(values)
    assert one.norm == pytest.approx(math.sqrt(squares.sum()), rel=1e-12)
    assert one.rank == len(values)
    assert one.stable_rank == pytest.approx(squares.sum() / squares[0], rel=1e-12)
    kept = [one.kept(rank) for rank in range(len(values) + 2)]
    expected = [squares[:rank].sum() / squares.sum() for rank in range(len(values) + 2)]
    assert kept == pytest.approx(expected, abs=1e-12)


@given(VALUES, st.floats(0.0, 1.0))
def test_the_rank_for_an_energy_is_the_least_that_keeps_it(values: tuple[float, ...], energy: float) -> None:
    one = Figures(values)
    rank = one.rank_for(energy)
    assert one.kept(rank) >= energy or rank == one.rank
    assert rank == 0 or one.kept(rank - 1) < energy


def test_of_nothing_there_is_no_norm_and_all_of_it_is_kept() -> None:
    nothing = Figures(())
    assert (nothing.norm, nothing.rank, nothing.stable_rank, nothing.kept(0)) == (0.0, 0, 0.0, 1.0)
    assert nothing.rank_for(0.99) == 0


def test_a_module_that_is_not_finite_has_no_norm_and_counts_for_none_with_others() -> None:
    odd = Figures((), finite=False)
    assert math.isnan(odd.norm)
    assert together([Figures((3.0,)), odd, Figures((4.0,))]) == 5.0
    assert together([]) == 0.0


def test_values_whose_squares_are_beyond_float64_have_a_norm() -> None:
    assert Figures((3e200, 4e200)).norm == pytest.approx(5e200)
    assert Figures((3e200, 4e200)).kept(1) == pytest.approx(0.36)


def test_pooled_modules_lose_what_they_lose_together_when_all_are_cut_to_one_rank() -> None:
    rng = np.random.default_rng(3)
    spectra = [np.sort(rng.random(n))[::-1] for n in (5, 2, 7)]
    figures = [Figures(tuple(values.tolist())) for values in spectra]

    found = pooled([*figures, Figures((), finite=False)])

    assert found.norm == pytest.approx(together(figures), rel=1e-13)
    whole = sum(float((values**2).sum()) for values in spectra)
    for rank in range(8):
        kept = sum(float((values[:rank] ** 2).sum()) for values in spectra)
        assert found.kept(rank) == pytest.approx(kept / whole, rel=1e-12)


def test_nothing_pooled_is_nothing() -> None:
    assert pooled([]) == Figures(())
