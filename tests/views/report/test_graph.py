"""The graph: every step below what it takes, no two in one place, every arrow between its steps."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.views.report.graph import Arrow, Box, drawing, layers


def boxes(*names: str) -> list[Box]:
    return [Box(name, "kind", ("one", "two"), "built", f"told of {name}") for name in names]


def arrows(*pairs: str) -> list[Arrow]:
    return [Arrow(pair[0], pair[1]) for pair in pairs]


class Shapes(HTMLParser):
    """The boxes' places and the arrows' ends."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.boxes: list[tuple[float, float, float, float]] = []
        self.paths: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "rect" and found["class"].startswith("box"):
            x, y, width, height = (float(found[name]) for name in ("x", "y", "width", "height"))
            self.boxes.append((x, y, width, height))
        if tag == "path" and "edge" in found["class"]:
            self.paths.append(found["d"])


def test_a_diamond_has_three_layers() -> None:
    assert layers("abcd", arrows("ab", "ac", "bd", "cd")) == [["a"], ["b", "c"], ["d"]]


def test_what_is_read_stands_just_above_its_first_use() -> None:
    assert layers("abxc", arrows("ab", "bc", "xc")) == [["a"], ["b", "x"], ["c"]]


def test_neighbours_stand_side_by_side() -> None:
    """a, b and c feed f, e and d: as written, every arrow crosses every other."""
    rows = layers("abcdef", arrows("af", "be", "cd"))
    assert [rows[0].index(above) for above in "abc"] == [rows[1].index(below) for below in "fed"]


def test_what_a_check_holds_back_stands_below_it() -> None:
    rows = layers("abc", [*arrows("ab", "ac"), Arrow("b", "c", dotted=True)])
    assert rows == [["a"], ["b"], ["c"]]


@st.composite
def recipes(draw: st.DrawFn) -> tuple[list[str], list[Arrow]]:
    count = draw(st.integers(1, 14))
    names = [f"s{n}" for n in range(count)]
    found = [
        Arrow(names[a], names[b])
        for b in range(count)
        for a in draw(st.sets(st.integers(0, max(0, b - 1)), max_size=3))
        if a < b
    ]
    return names, found


@settings(max_examples=40)
@given(recipes())
def test_every_step_is_below_its_inputs_and_overlaps_none(recipe: tuple[list[str], list[Arrow]]) -> None:
    names, found = recipe
    rows = layers(names, found)
    depth = {name: number for number, row in enumerate(rows) for name in row}
    assert sorted(depth) == sorted(names)
    assert sum(map(len, rows)) == len(names)
    assert all(depth[arrow.start] < depth[arrow.end] for arrow in found)

    width, height, text = drawing(boxes(*names), found)
    shapes = Shapes(text)
    assert len(shapes.paths) == len(found)
    for number, (x, y, w, h) in enumerate(shapes.boxes):
        assert x >= 0 <= y
        assert x + w <= width
        assert y + h <= height
        for a, b, *_ in shapes.boxes[:number]:
            assert abs(a - x) >= w or abs(b - y) >= h


def test_an_arrow_over_several_layers_goes_round_what_is_between() -> None:
    """a feeds b and c, b feeds c: drawn straight, a's arrow to c would be lost behind b."""
    _, _, text = drawing(boxes(*"abc"), arrows("ab", "bc", "ac"))
    shapes = Shapes(text)
    _, (x, y, width, height), _ = sorted(shapes.boxes, key=lambda box: box[1])
    (long,) = [path for path in shapes.paths if "V" in path]
    passed = [float(number) for number in re.findall(r"([-\d.]+) [-\d.]+V", long)]
    assert len(passed) == 1
    assert not x <= passed[0] <= x + width
    assert f"V{y + height:g}" in long


def test_the_same_recipe_is_drawn_the_same_way() -> None:
    found = arrows("ab", "ac", "bd", "cd")
    assert drawing(boxes(*"abcd"), found) == drawing(boxes(*"abcd"), found)


def test_nothing_is_drawn_of_nothing() -> None:
    assert layers([], []) == []
    width, height, _ = drawing([], [])
    assert width > 0 < height


def test_a_weight_stands_at_its_arrow() -> None:
    assert ">0.7</text>" in drawing(boxes("a", "b"), [Arrow("a", "b", "0.7")])[2]
