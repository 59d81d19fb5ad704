from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from benchmarks.chart import svg
from benchmarks.report import markdown

MIB = 2**20


@pytest.fixture
def results(row: Any) -> dict[str, Any]:
    """A work with a peer that failed and one that is extrapolated, and one of cost against work."""
    rows = [
        row(
            "lorapipe", (2.0, 1.5, 100 * MIB), (4.0, 1.5, 100 * MIB), role="lorapipe", figures={"error": 1e-4}
        ),
        row("slow", (20.0, 30.0, 300 * MIB), (40.0, 30.0, 300 * MIB), note="extrapolated from <few>"),
        row("gone", missing="not installed"),
        row("cp", (1.0, 0.1, 20 * MIB), (2.0, 0.1, 20 * MIB), role="floor"),
    ]
    parts = [
        row(f"lorapipe, {n}", (1.0, 1 + n / 100, 50 * MIB), role="lorapipe", size=(n, n * 10**7))
        for n in (10, 20, 40)
    ]
    goals = [
        {"metric": "cpu", "limit": 1 / 10, "of": "lorapipe", "over": ["slow"]},
        {"metric": "wall", "limit": 1.25, "of": "lorapipe", "over": ["cp"]},
        {"metric": "cpu", "limit": 1 / 3, "of": "lorapipe", "over": ["gone"]},
        {"metric": "peak", "limit": 200 * MIB, "of": "lorapipe", "over": []},
    ]
    plain = {"date": "2001-02-03", "load": 0.25, "note": ""}
    return {
        "small": False,
        "machine": {"CPU": "a & b"},
        "works": {
            "one": plain | {"title": "One work", "goals": goals, "rows": rows},
            "many": plain | {"title": "Parts", "goals": [], "rows": parts},
        },
    }


def test_each_row_gives_figures_and_how_many_times_ours_they_are(results: dict[str, Any]) -> None:
    page = markdown(results)
    assert "| **lorapipe** | 3.00 (2.00-4.00) | 1.50 | 100 | 1 | 1 | 1 | 1.000e-04 |" in page
    assert "| slow [1] | 30.0 (20.0-40.0) | 30.0 | 300 | 10.0 | 20.0 |  |  |" in page
    assert "[1] slow: extrapolated from <few>." in page


def test_a_peer_that_is_missing_says_so_and_every_row_has_all_columns(results: dict[str, Any]) -> None:
    page = markdown(results)
    assert "| gone | not installed |" in page
    table = [text for text in page.splitlines() if text.startswith("|") and "Work" not in text]
    widths = {
        text.count("|")
        for text in table[table.index("| | wall s | CPU s | peak MiB | x wall | x CPU | x peak | error |") :][
            :6
        ]
    }
    assert widths == {9}


def test_goals_say_what_was_reached(results: dict[str, Any]) -> None:
    page = markdown(results)
    assert "| CPU seconds over slow: 1/10.0 | 1/20.0 | yes |" in page
    assert "| wall over cp: 1.25 | 2.00 | **no** |" in page
    assert "| CPU seconds over gone: 1/3.0 | not measured | |" in page
    assert "| peak memory: 200 MiB | 100 MiB | yes |" in page


@pytest.mark.parametrize(("left", "told"), [(3 * MIB, "3.0"), (MIB // 2, None)])
def test_what_is_left_on_disk_has_a_column_where_it_is_more_than_a_store(
    results: dict[str, Any], left: int, told: str | None
) -> None:
    section = results["works"]["one"]
    section["rows"][0]["figures"]["left"] = 0
    section["rows"][1]["figures"] = {"left": left}
    section["goals"].append({"metric": "left", "limit": MIB, "of": "lorapipe", "over": []})
    page = markdown(results)
    assert ("| left MiB |" in page) == (told is not None)
    if told is not None:
        assert "| 100 | 1 | 1 | 1 | 1.000e-04 | 0.0 |" in page
        assert f"| 10.0 | 20.0 |  |  | {told} |" in page
        assert "| 20 | 0.50 | 0.07 | 0.20 |  |  |" in page
    assert "| left on disk beside the output: 1 MiB | 0 MiB | yes |" in page


def test_small_runs_are_marked_and_judged_by_nothing(results: dict[str, Any]) -> None:
    page = markdown(results | {"small": True})
    assert "mean nothing else" in page
    assert "| goal |" not in page


def test_cost_against_work_is_a_line(results: dict[str, Any]) -> None:
    page = markdown(results)
    assert "CPU seconds = 1.00 + 10.00 for each thousand modules" in page
    assert "The largest peak is 1.00 times the least." in page


def test_the_picture_is_well_formed_and_has_a_dark_half(results: dict[str, Any]) -> None:
    text = svg(results)
    tree = ET.fromstring(text)
    names = {element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {"lorapipe", "slow", "cp", "One work", "Parts"} <= names
    assert "gone" not in names
    assert "prefers-color-scheme: dark" in text


def test_what_is_extrapolated_is_drawn_apart(results: dict[str, Any]) -> None:
    boxes = ET.fromstring(svg(results)).iter("{http://www.w3.org/2000/svg}rect")
    kinds = [box.get("class") for box in boxes]
    assert kinds.count("peer guess") == 3
    assert "peer" not in kinds


def test_bars_are_in_proportion(results: dict[str, Any]) -> None:
    boxes = ET.fromstring(svg(results)).iter("{http://www.w3.org/2000/svg}rect")
    cpu = [float(box.get("width", "0")) for box in list(boxes)[:3]]
    assert cpu[0] / cpu[1] == pytest.approx(1.5 / 30, rel=0.01)
