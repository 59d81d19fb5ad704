"""From samples to figures: medians, ratios of runs side by side, goals, straight lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import linear_regression, median
from typing import Any

from benchmarks.work import Goal

__all__ = ["METRICS", "judged", "line", "middle", "ratio", "spread"]

Row = Mapping[str, Any]

METRICS = ("wall", "cpu", "peak")


def middle(row: Row, metric: str) -> float | None:
    """The median of ``wall``, ``cpu`` or ``peak`` over the runs; else the figure of that name."""
    if metric not in METRICS:
        figure: float | None = row["figures"].get(metric)
        return figure
    if not row["samples"]:
        return None
    found: float = median(sample[metric] for sample in row["samples"])
    return found


def spread(row: Row, metric: str) -> tuple[float, float]:
    """Least and largest of the runs."""
    values = [sample[metric] for sample in row["samples"]]
    return min(values), max(values)


def ratio(row: Row, other: Row, metric: str) -> float | None:
    """Median over the rounds of ``row`` over ``other``: both of one round, so that load cancels."""
    pairs = list(zip(row["samples"], other["samples"], strict=False))
    if not pairs:
        return None
    found: float = median(mine[metric] / theirs[metric] for mine, theirs in pairs if theirs[metric])
    return found


def judged(goal: Goal, rows: Sequence[Row]) -> float | None:
    """The value that a goal is about, or ``None`` where a row has no figures."""
    named = {row["name"]: row for row in rows}
    ours = named[goal.of]
    if not goal.over:
        return middle(ours, goal.metric)
    others = [named[name] for name in goal.over if name in named and named[name]["samples"]]
    found = [value for other in others if (value := ratio(ours, other, goal.metric)) is not None]
    # Over the largest of the others: the least of the ratios.
    return min(found) if found else None


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Slope, intercept and largest gap, as a share of the largest value, of the least-squares line."""
    xs, ys = zip(*points, strict=True)
    slope, intercept = linear_regression(xs, ys)
    gap = max(abs(y - slope * x - intercept) for x, y in points)
    return slope, intercept, gap / max(ys)
