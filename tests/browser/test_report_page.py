"""The report as Chromium shows it: nothing runs but its own script, tables sort, all of it fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorapipe.build.looking.recording import Recording
from lorapipe.build.looking.report import Report
from lorapipe.build.looking.reporting import report_recipe
from lorapipe.build.run import build
from lorapipe.recipe.parsing import load_recipe
from lorapipe.views.report.page import report_html

from ..bench import SHAPES, TE, Bench
from .colours import LIGHT

STEPS = """
    base: {load: base.safetensors}
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: 0.7, b: -0.4}}
    small: {svd-resize: both, rank: 3}
    lora: {save: small, to: out/small.safetensors}
    model: {merge-into-checkpoint: base, loras: {both: 0.5}, unmatched: warn}
    merged: {save: model, to: out/model.safetensors}
"""

HOSTILE = [
    "<script>document.title='owned'</script>",
    "</title></style><img src=x onerror=\"document.title='owned'\">",
    "\"'><svg onload=document.title='owned'>",
    "javascript:document.title='owned'",
    "</script><script>document.title='owned'</script>",
]

Show = Callable[[Report], Any]


@pytest.fixture
def report(bench: Bench) -> Report:
    bench.checkpoint()
    bench.lora("a", rank=8, modules={**SHAPES, TE.replace("layers_0", "layers_1"): SHAPES[TE]})
    bench.lora("b", rank=12, alpha=None, seed=1)
    recipe, recording = load_recipe(bench.recipe(STEPS)), Recording()
    build(recipe, listen=recording.tell)
    return report_recipe(recipe, recording=recording)


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Show:
    """The browser with a report in it, at a desk's width, in light."""

    def shown(report: Report) -> Any:
        page = tmp_path / "report.html"
        page.write_text(report_html(report), "utf-8")
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        browser.get_log("browser")
        browser.get(page.as_uri())
        return browser

    return shown


def complaints(browser: Any) -> list[str]:
    """What the browser says of the page: errors, and what its policy stopped."""
    return [entry["message"] for entry in browser.get_log("browser")]


def test_the_page_is_shown_without_a_complaint_and_asks_for_nothing(show: Show, report: Report) -> None:
    browser = show(report)
    assert complaints(browser) == []
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert asked == []
    assert browser.execute_script("return document.compatMode") == "CSS1Compat"


def test_no_name_runs_or_leaves_its_place(show: Show, report: Report) -> None:
    lost = tuple(replace(report.lost[0], module=name, reason=name) for name in HOSTILE)
    odd = replace(
        report,
        title=" ".join(HOSTILE),
        lost=lost,
        untold=tuple(HOSTILE),
        meetings=(replace(report.meetings[0], one=HOSTILE[0], two=HOSTILE[2]),),
        portraits=(replace(report.portraits[0], path=Path(HOSTILE[1])), *report.portraits[1:]),
    )
    browser = show(odd)
    assert complaints(browser) == []
    assert browser.title.endswith("lorapipe report")
    assert browser.execute_script("return document.querySelectorAll('img, script').length") == 1
    cells = browser.execute_script(
        "return [...document.querySelectorAll('#unmatched tbody th')].map(e => e.textContent)"
    )
    assert cells == HOSTILE
    assert len(browser.find_elements("css selector", "main > section")) == browser.execute_script(
        "return document.querySelectorAll('nav a').length"
    )


def test_a_table_sorts_by_numbers_and_by_names(show: Show, report: Report) -> None:
    browser = show(report)
    rows = "return [...document.querySelectorAll('#lora-1 details tbody tr')]"
    values, names = (
        f"{rows}.map(r => Number(r.cells[3].dataset.v))",
        f"{rows}.map(r => r.cells[0].textContent)",
    )
    click = "document.querySelectorAll('#lora-1 details th button')[arguments[0]].click()"
    before = browser.execute_script(values)
    browser.execute_script(click, 3)
    assert browser.execute_script(values) == sorted(before, reverse=True)
    browser.execute_script(click, 3)
    assert browser.execute_script(values) == sorted(before)
    browser.execute_script(click, 0)
    sorted_names = browser.execute_script(names)
    assert len(sorted_names) == len(before)
    browser.execute_script(click, 0)
    assert browser.execute_script(names) == sorted_names[::-1]
    told = "return document.querySelectorAll('#lora-1 details th')[0].getAttribute('aria-sort')"
    assert browser.execute_script(told) == "descending"


def test_a_pointer_on_a_square_is_told_its_numbers(show: Show, report: Report) -> None:
    from selenium.webdriver import ActionChains

    browser = show(report)
    square = browser.find_element("css selector", "#lora-1 svg rect[data-tip]")
    ActionChains(browser).move_to_element(square).perform()
    tip = browser.find_element("id", "tip-box")
    assert tip.is_displayed()
    assert "norm" in tip.text
    assert "stable rank" in tip.text


def test_without_script_everything_is_there(show: Show, report: Report) -> None:
    browser = show(report)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.refresh()
        text = browser.find_element("css selector", "main").text
        for said in ("The build", "Pairs of LoRAs", "Blocks of a.safetensors", "energy kept"):
            assert said in text
        assert browser.find_elements("css selector", "th button") == []
        assert browser.find_elements("css selector", "#lora-1 svg rect title") != []
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_is_as_wide_as_the_screen(show: Show, report: Report, width: int) -> None:
    browser = show(report)
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(show: Show, report: Report, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: a ratio of 4.5 at least, of every text and of the texts in pictures."""
    browser = show(report)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    found = browser.execute_script(CONTRAST)
    assert len(found) > 50
    assert [text for text, ratio in found if ratio < 4.5] == []
    dark = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")


CONTRAST = (
    LIGHT
    + """
const ground = element => {
  for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour;
  }
  return 'rgb(255, 255, 255)';
};
const texts = 'h1, h2, h3, p, li, a, th, td, dt, dd, caption, figcaption, summary, svg text';
return [...document.querySelectorAll(texts)].filter(e => e.textContent.trim()).map(e => {
  const style = getComputedStyle(e);
  const a = light(e.ownerSVGElement ? style.fill : style.color), b = light(ground(e));
  return [e.textContent.slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
});
"""
)


def test_every_control_is_reached_by_the_tabulator(show: Show, report: Report) -> None:
    browser = show(report)
    count = browser.execute_script(
        "return [...document.querySelectorAll('a, summary, th button, .scroll')]"
        ".filter(e => e.checkVisibility() && e.tabIndex === 0).length"
    )
    assert count > 20
    assert browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0)"
    )


def test_it_can_be_printed(show: Show, report: Report) -> None:
    import base64

    browser = show(report)
    made = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    assert base64.b64decode(made["data"]).startswith(b"%PDF")
