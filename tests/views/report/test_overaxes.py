"""Pictures over axes: where the numbers are, and that each is there to read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.views.report.overaxes import Point, _ticks, grid, line

from .pages import Page, read_page


def drawn(shapes: tuple[float, float, str]) -> Page:
    return read_page(f"<svg>{shapes[2]}</svg>")


def of(page: Page, tag: str) -> list[dict[str, str | None]]:
    return [attributes for name, attributes in page.elements if name == tag]


def points(*numbers: float | None) -> list[Point]:
    return [Point(n, "missing" if n is None else f"{n:g}", (f"told {n}",)) for n in numbers]


def test_a_line_goes_through_its_points_in_order_at_equal_distances() -> None:
    page = drawn(line("energy", "rank", ["1", "2", "16"], points(0.25, 0.5, 1.0), "{:g}".format))
    dots = [(float(dot["cx"] or 0), float(dot["cy"] or 0)) for dot in of(page, "circle")]
    assert dots[1][0] - dots[0][0] == pytest.approx(dots[2][0] - dots[1][0])
    # Twice the rise is twice as far up.
    assert dots[1][1] - dots[2][1] == pytest.approx(2 * (dots[0][1] - dots[1][1]), rel=1e-3)
    (path,) = of(page, "polyline")
    assert path["points"] == " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
    assert {"energy", "rank", "1", "2", "16", "0.25", "0.5"} <= set(page.texts)


def test_a_line_is_broken_where_a_variant_is_missing() -> None:
    page = drawn(line("e", "rank", list("abcde"), points(1.0, 2.0, None, 4.0, 5.0), "{:g}".format))
    assert len(of(page, "circle")) == 4
    assert len(of(page, "polyline")) == 2
    alone = drawn(line("e", "rank", list("abc"), points(1.0, None, 3.0), "{:g}".format))
    assert len(of(alone, "circle")) == 2
    assert of(alone, "polyline") == []


def test_many_points_have_their_numbers_at_the_pointer_alone() -> None:
    labels = [f"v{n}" for n in range(30)]
    page = drawn(line("e", "rank", labels, points(*map(float, range(30))), "{:g}".format))
    assert len(of(page, "circle")) == 30
    assert len([text for text in page.texts if text.startswith("v") and " " not in text]) < 10
    assert sum("told 7.0" in text for text in page.texts) == 1


def test_a_grid_has_a_cell_for_each_pair_with_its_number_and_the_scale_from_least_to_greatest() -> None:
    cells = {(r, c): Point(n := float(r * 3 + c), f"n{n:g}", ("told",)) for r in range(2) for c in range(3)}
    del cells[1, 0]
    cells[0, 1] = Point(None, "held back")
    page = drawn(grid("energy", ("strength", "rank"), (["0.5", "1.0"], ["4", "8", "16"]), cells))
    rects = of(page, "rect")
    assert [rect["class"] for rect in rects] == ["h0", "none", "h3", "none", "h6", "h7"]
    assert {(rect["x"], rect["y"]) for rect in rects} == {
        (rects[c]["x"], rects[3 * r]["y"]) for r in range(2) for c in range(3)
    }
    for text in (
        "energy",
        "strength",
        "rank →",
        "0.5",
        "1.0",
        "4",
        "8",
        "16",
        "n0",
        "n2",
        "n4",
        "n5",
        "held back",
    ):
        assert text in page.texts


def test_where_all_numbers_are_equal_they_have_one_colour() -> None:
    cells = {(0, c): Point(2.0, "2") for c in range(3)}
    page = drawn(grid("e", ("a", "b"), (["x"], list("123")), cells))
    assert {rect["class"] for rect in of(page, "rect")} == {"h4"}


@given(st.floats(-1e12, 1e12), st.floats(0, 1e12))
def test_ticks_are_few_and_hold_all_numbers_between_them(low: float, spread: float) -> None:
    high = low + spread
    ticks = _ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))
    slack = 1e-9 * max(abs(low), abs(high), 1e-300)
    assert ticks[0] <= low + slack
    assert high - slack <= ticks[-1]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.69, 0.96, [0.6, 0.7, 0.8, 0.9, 1.0]),
        (0.0, 10.0, [0.0, 5.0, 10.0]),
        (3.0, 3.0, [1.0, 2.0, 3.0, 4.0, 5.0]),
        (0.0, 0.0, [-0.5, 0.0, 0.5]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert _ticks(low, high) == ticks
