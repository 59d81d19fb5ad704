"""Where the rows of a weight may be parted, in runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.weights.inference.cuts import ANYWHERE, NOWHERE, Cuts, can_cut, coarsest, part

RUNS: Cuts = ((6, 2), (4, 4), (3, 1))
"""Rows 0, 2, 4, 6 | 10 | 11, 12, 13."""

runs = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4).map(
    lambda pairs: tuple((times * step, step) for times, step in pairs)
)


def ends(cuts: Cuts) -> set[int]:
    """Every row at which a cut is allowed, counted one by one."""
    found, first = {0}, 0
    for height, step in cuts:
        found |= {first + row for row in range(0, height + 1, step)}
        first += height
    return found


def test_runs_are_cut_at_their_own_steps() -> None:
    assert {row for row in range(14) if can_cut(RUNS, row)} == {0, 2, 4, 6, 10, 11, 12, 13}


@pytest.mark.parametrize(
    ("cuts", "rows"), [(NOWHERE, {0}), (ANYWHERE, set(range(9))), (((0, 3),), {0, 3, 6})]
)
def test_no_runs_are_one_part_and_an_open_run_has_no_end(cuts: Cuts, rows: set[int]) -> None:
    assert {row for row in range(9) if can_cut(cuts, row)} == rows


def test_rows_beyond_the_last_run_are_none() -> None:
    assert not can_cut(RUNS, 14)


@given(runs, st.data())
def test_a_part_has_the_cuts_that_fall_in_it(cuts: Cuts, data: st.DataObject) -> None:
    allowed = sorted(ends(cuts))
    start = data.draw(st.sampled_from(allowed[:-1]))
    stop = data.draw(st.sampled_from([row for row in allowed if row > start]))
    inside = part(cuts, start, stop)
    assert ends(inside) == {row - start for row in allowed if start <= row <= stop}
    assert sum(height for height, _ in inside) == stop - start


def test_a_part_of_an_open_run_ends_where_it_was_cut() -> None:
    assert part(((4, 2), (0, 3)), 2, 10) == ((2, 2), (6, 3))


def test_the_coarsest_step_is_what_must_be_taken_together() -> None:
    assert coarsest(RUNS, 13) == 4
    assert coarsest(ANYWHERE, 13) == 1
    assert coarsest(NOWHERE, 13) == 13
