"""Charts and heat maps: what is drawn is in proportion to its number."""

from __future__ import annotations

import re

import pytest

from lorapipe.views.report import charts, heatmap
from lorapipe.views.report.charts import Bar, Curve, bars, curves, histogram


def rects(text: str, style: str) -> list[dict[str, float]]:
    found = re.findall(rf'<rect ([^>]*) class="{style}"', text)
    return [{name: float(value) for name, value in re.findall(r'(\w+)="([-\d.e+]+)"', one)} for one in found]


def test_bars_are_as_long_as_their_numbers() -> None:
    _, _, text = bars([Bar(f"b{n}", value, "", ()) for n, value in enumerate((1.0, 0.5, 0.25))])
    lengths = [rect["width"] for rect in rects(text, "fill")]
    assert lengths[1] == pytest.approx(lengths[0] / 2)
    assert lengths[2] == pytest.approx(lengths[0] / 4)


def test_bars_of_two_signs_start_in_the_middle() -> None:
    _, _, text = bars([Bar("up", 0.5, "", ()), Bar("down", -0.25, "", ())], signed=True)
    (up,), (down,) = rects(text, "fill"), rects(text, "minus")
    assert down["x"] + down["width"] == pytest.approx(up["x"], abs=1e-3)
    assert down["width"] == pytest.approx(up["width"] / 2)


def test_next_to_nothing_looks_like_it() -> None:
    _, _, text = bars([Bar("b", 0.001, "", ())], least=0.1)
    (small,) = rects(text, "fill")
    assert small["width"] < 10


def test_a_histogram_counts_every_value_once() -> None:
    values = [0.1, 0.2, 0.2, 0.9, 1.0, 1.0]
    _, _, text = histogram(values, "x")
    counts = [int(n) for n in re.findall(r"<title>(\d+) from", text)]
    assert sum(counts) == len(values)
    assert (counts[0], counts[-1]) == (1, 2)


def test_a_histogram_of_powers_of_ten_leaves_out_what_has_none() -> None:
    _, _, text = histogram([0.0, 1e-6, 1e-3, 1.0], "x", logarithmic=True)
    assert sum(int(n) for n in re.findall(r"<title>(\d+) from", text)) == 3


@pytest.mark.parametrize("values", [[], [0.5], [1.0, 1.0], [0.0], [1e-300, 1e-300]])
@pytest.mark.parametrize("logarithmic", [True, False])
def test_any_values_have_a_histogram(values: list[float], logarithmic: bool) -> None:
    assert "nan" not in histogram(values, "x", logarithmic)[2]


def test_curves_fall_where_numbers_fall() -> None:
    _, _, text = curves([Curve((1.0, 0.1, 0.01), "thick", "")], "rank", logarithmic=True)
    (points,) = re.findall(r'points="([^"]*)"', text)
    heights = [float(point.split(",")[1]) for point in points.split()]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.11)


@pytest.mark.parametrize("points", [(), (1.0,), (1.0, 0.0), (1.0, 1e-200)])
def test_any_curve_can_be_drawn(points: tuple[float, ...]) -> None:
    for logarithmic in (True, False):
        assert "nan" not in curves([Curve(points, "thin", "")], "rank", logarithmic)[2]


def test_colours_go_from_the_lightest_to_the_darkest() -> None:
    shares = [0.0, 0.2, 0.5, 0.99, 1.0, None]
    row = heatmap.Row("unet", "IN01", tuple(heatmap.Cell(share, (f"{share}",)) for share in shares))
    _, _, text = heatmap.drawing([row], "9")
    cells = re.findall(r'class="(h\d|none)"><title>', text)
    assert cells == ["h0", "h1", "h4", "h7", "h7", "none"]


def test_a_long_block_goes_on_below_itself_and_nothing_overlaps() -> None:
    cells = tuple(heatmap.Cell(0.5, (str(n),)) for n in range(130))
    rows = [
        heatmap.Row("unet", "IN07", cells),
        heatmap.Row("unet", "IN08", cells[:3]),
        heatmap.Row("te", "BASE", cells[:2]),
    ]
    width, height, text = heatmap.drawing(rows, "1")
    found = [(rect["x"], rect["y"]) for rect in rects(text, "h4") if rect["width"] == rect["height"]]
    assert len(found) == len(set(found)) == 135
    assert max(x for x, _ in found) < width
    assert max(y for _, y in found) < height
    assert [text.index(label) for label in ("IN07", "IN08", "BASE")] == sorted(
        text.index(label) for label in ("IN07", "IN08", "BASE")
    )


def test_a_pointer_is_told_the_numbers() -> None:
    _, _, text = charts.bars([Bar("IN01", 0.5, "+0.5", ("cosine +0.500", "3 % cancels"))])
    assert "<title>IN01 · cosine +0.500 · 3 % cancels</title>" in text
