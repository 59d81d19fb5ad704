"""The page on large models shows the tables that the figures make."""

from __future__ import annotations

import json

import pytest

from benchmarks.rates import FILE
from benchmarks.scale_page import PAGE, filled, main, tables

RATES = json.loads(FILE.read_text(encoding="utf-8"))


def test_the_tables_of_the_page_are_those_that_the_figures_make() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, RATES) == page
    for table in tables(RATES).values():
        assert table in page


def test_a_table_that_is_not_the_figures_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page.replace("| 30 |", "| 31 |"), RATES) == page
    assert main([]) == 0
    assert capsys.readouterr().out == "\n".join(tables(RATES).values())


def test_every_table_has_its_place_and_a_row_for_each_figure() -> None:
    page = PAGE.read_text(encoding="utf-8")
    made = tables(RATES)
    for name in made:
        assert page.count(f"<!-- benchmarks.scale_page: {name} -->\n") == 1
    assert made["rates"].count("\n") == 2 + len(RATES["models"])
    assert made["sizes"].count("\n") == 2 + len(RATES["sizes"])
    assert made["engines"].count("\n") == 2 + len(RATES["engines"])
    assert made["workers"].count("\n") == 2 + 3 * (len(RATES["models"]) + 1)
