from __future__ import annotations

from typing import Any

import pytest

from benchmarks.figures import judged, line, middle, ratio, spread
from benchmarks.work import Goal


def test_middle_is_the_median_of_a_metric_or_a_figure(row: Any) -> None:
    ours = row("a", (3, 1, 1), (1, 1, 1), (100, 1, 1), figures={"optimum": 1.5})
    assert middle(ours, "wall") == 3
    assert middle(ours, "optimum") == 1.5
    assert middle(ours, "error") is None
    assert middle(row("b"), "wall") is None
    assert spread(ours, "wall") == (1, 100)


def test_a_ratio_compares_within_a_round(row: Any) -> None:
    # The second round ran on a machine ten times slower: the ratio does not see it.
    ours, other = row("a", (1, 1, 1), (10, 1, 1)), row("b", (5, 1, 1), (50, 1, 1))
    assert ratio(other, ours, "wall") == 5
    assert ratio(other, row("c"), "wall") is None


def test_a_goal_over_several_is_over_the_largest(row: Any) -> None:
    rows = [row("lorapipe", (6, 1, 1)), row("cp", (3, 1, 1)), row("sha", (4, 1, 1)), row("gone")]
    assert judged(Goal("wall", 2, over=("cp", "sha", "gone")), rows) == 1.5
    assert judged(Goal("wall", 2, over=("gone",)), rows) is None
    assert judged(Goal("wall", 2), rows) == 6
    assert judged(Goal("wall", 2, of="cp"), rows) == 3


def test_a_straight_line_is_found_with_its_largest_gap() -> None:
    assert line([(1, 5), (2, 7), (4, 11)]) == pytest.approx((2, 3, 0))
    assert line([(0, 0), (1, 2), (2, 1)])[2] > 0.3
