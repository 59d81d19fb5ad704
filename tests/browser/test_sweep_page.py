"""A sweep as Chromium shows it: pictures fit, are read in light and dark, its table sorts by values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorapipe.build.looking.recording import Recording
from lorapipe.build.looking.report import Report
from lorapipe.build.looking.reporting import report_recipe
from lorapipe.build.run import build
from lorapipe.build.sweep import Quantity, Sweep, SweepTable, Variant
from lorapipe.recipe.parsing import load_recipe
from lorapipe.views.report.page import report_html

from ..bench import Bench
from .colours import LIGHT

STEPS = """
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: $(strength), b: -1.0}}
    small: {svd-resize: both, rank: $(rank)}
    lora: {save: small, to: out/s$(strength)-r$(rank).safetensors}
"""
HEAD = "matrix: {strength: [0.5, 0.75, 10.0], rank: [2, 6]}\n"


@pytest.fixture
def report(bench: Bench) -> Report:
    bench.lora("a", rank=8)
    bench.lora("b", rank=8, seed=1)
    recipe, recording = load_recipe(bench.recipe(STEPS, head=HEAD)), Recording()
    build(recipe, listen=recording.tell)
    return report_recipe(recipe, recording=recording)


def show(browser: Any, report: Report, folder: Path, width: int = 1280, scheme: str = "light") -> Any:
    """The browser with a report in it."""
    page = folder / "report.html"
    page.write_text(report_html(report), "utf-8")
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    browser.get_log("browser")
    browser.get(page.as_uri())
    return browser


def wide(report: Report) -> Report:
    """A sweep of 16 by 12 values, the widest picture that there is."""
    axes = {"strength": tuple(n / 10 for n in range(16)), "rank": tuple(range(1, 13))}
    variants = tuple(
        Variant(
            step=f"lora[strength={s},rank={r}]",
            values={"strength": s, "rank": r},
            state="written",
            path=Path(f"/o/{s}-{r}.safetensors"),
            size=1000 + r,
            figures={"energy kept": 1 / (1 + s + r)},
        )
        for s in axes["strength"]
        for r in axes["rank"]
    )
    table = SweepTable("lora", axes, (Quantity("energy kept", "share"),), variants)
    return replace(report, sweep=Sweep(axes, (table,)))


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_the_page_is_as_wide_as_the_screen_whatever_the_sweep(
    browser: Any, tmp_path: Path, report: Report, width: int
) -> None:
    for shown in (report, wide(report)):
        page = show(browser, shown, tmp_path, width)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        assert page.get_log("browser") == []


def test_pictures_stand_beside_each_other_and_their_captions_below_them(
    browser: Any, tmp_path: Path, report: Report
) -> None:
    page = show(browser, report, tmp_path)
    tops = page.execute_script(
        "return [...document.querySelectorAll('.multiples figure')].map(f => f.getBoundingClientRect().top)"
    )
    assert len(tops) >= 5
    assert len(set(tops[:3])) == 1
    below = page.execute_script(
        "return [...document.querySelectorAll('.multiples figure')].every(f => "
        "f.querySelector('figcaption').getBoundingClientRect().top >= "
        "f.querySelector('svg').getBoundingClientRect().bottom)"
    )
    assert below


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_number_in_a_cell_has_contrast_on_every_colour(
    browser: Any, tmp_path: Path, report: Report, scheme: str
) -> None:
    """WCAG 2.2, 1.4.3: a ratio of 4.5 at least."""
    page = show(browser, wide(report), tmp_path, scheme=scheme)
    found = page.execute_script(CELLS)
    assert {colour for colour, _ in found} == {f"h{n}" for n in range(8)}
    assert [(colour, ratio) for colour, ratio in found if ratio < 4.5] == []


CELLS = (
    LIGHT
    + """
const fill = e => light(getComputedStyle(e).fill);
return [...document.querySelectorAll('.multiples rect')].map(rect => {
  const a = fill(rect), b = fill(rect.nextElementSibling);
  return [rect.getAttribute('class'), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
});
"""
)


def test_the_table_sorts_by_the_values_of_an_axis_as_numbers(
    browser: Any, tmp_path: Path, report: Report
) -> None:
    page = show(browser, report, tmp_path)
    values = (
        "return [...document.querySelectorAll('#sweep tbody tr')].map(r => Number(r.cells[0].textContent))"
    )
    page.execute_script("document.querySelector('#sweep th button').click()")
    assert page.execute_script(values) == [10, 10, 0.75, 0.75, 0.5, 0.5]
    page.execute_script("document.querySelector('#sweep th button').click()")
    assert page.execute_script(values) == [0.5, 0.5, 0.75, 0.75, 10, 10]


def test_a_pointer_on_a_cell_is_told_its_variant(browser: Any, tmp_path: Path, report: Report) -> None:
    from selenium.webdriver import ActionChains

    page = show(browser, report, tmp_path)
    cell = page.find_element("css selector", ".multiples rect[data-tip]")
    ActionChains(page).move_to_element(cell).perform()
    tip = page.find_element("id", "tip-box")
    assert tip.is_displayed()
    assert "strength 0.5" in tip.text
    assert "rank 2" in tip.text
