"""Values in a notebook: what is shown of them, that it is escaped, small, and of the page's own colours."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import lorapipe
from lorapipe.build.events import Note, Progress, StepStarted
from lorapipe.build.run import Options, build, plan
from lorapipe.recipe.parsing import load_recipe
from lorapipe.views.notebook import Update, built_html, notebook_view, plan_html, spec_html
from lorapipe.views.said import Teller
from lorapipe.weights.specs import AdapterSpec, CheckpointSpec

from ..bench import Bench
from .screens import HOSTILE

STEPS = """
    a: {load: a.safetensors}
    small: {svd-resize: a, rank: 2}
    out: {save: small, to: out/o.safetensors}
"""


class Page(HTMLParser):
    """The elements of a piece of HTML, which have all to be closed, and its cells by row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "br":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_a_plan_is_a_row_a_step(bench: Bench) -> None:
    bench.lora("a", rank=8)
    made = plan(load_recipe(bench.recipe(STEPS)), read=True)
    rows = Page(made._repr_html_()).rows

    assert made._repr_html_() == plan_html(made)
    assert rows[0] == ["step", "does", "gives", "a run would"]
    assert [row[:3] for row in rows[1:]] == [
        ["a", "load a.safetensors", "LoRA, SD1.x, 4 modules, rank 8"],
        ["small", "svd-resize a", "LoRA, SD1.x, 4 modules, rank 2"],
        ["out", "save small to out/o.safetensors", "12 tensors"],
    ]
    assert rows[2][3] == "will runno result with this key in the store"
    assert "1 output to write on cpu" in plan_html(made)


def test_a_build_is_a_row_an_output(bench: Bench) -> None:
    bench.lora("a", rank=8)
    recipe = load_recipe(bench.recipe(STEPS))
    first, again = build(recipe), build(recipe)
    (output,) = first.outputs

    row = ["out/o.safetensors", f"{output.size / 1000:.3g} kB", output.sha256[:12]]
    assert Page(first._repr_html_()).rows[1:] == [[*row, "written"]]
    assert Page(built_html(again)).rows[1:] == [[*row, "up to date"]]
    assert "1 built, 1 written" in first._repr_html_()


def test_a_sweep_is_a_row_a_variant_and_what_is_of_none_an_output(bench: Bench) -> None:
    bench.lora("a", rank=8)
    steps = STEPS.replace("rank: 2", "rank: $(rank)").replace("out/o.", "out/$(rank).")
    recipe = bench.recipe(
        f"{steps}\n    whole: {{save: a, to: out/a.safetensors}}", head="matrix: {rank: [2, 4]}\n"
    )
    planned = plan(load_recipe(recipe), read=True)
    assert [row[0] for row in Page(plan_html(planned)).rows] == ["step", "a", "small", "out", "whole"]
    assert Page(plan_html(planned)).rows[2][1:] == [
        "svd-resize a", "LoRA, SD1.x, 4 modules, rank 2 ... rank 4", "will run",
    ]  # fmt: skip
    made = build(load_recipe(recipe))

    assert made.sweep is not None
    rows = Page(made._repr_html_()).rows
    assert [row[0] for row in rows] == ["output", "out/a.safetensors", "rank", "2", "4"]
    assert rows[2] == ["rank", "energy kept", "least kept", "size", "output", ""]
    assert rows[3][-2:] == ["2.safetensors", "written"]
    assert rows[2:] == Page(made.sweep._repr_html_()).rows
    alone = build(load_recipe(bench.recipe(steps, head="matrix: {rank: [2, 4]}\n")))
    assert [row[0] for row in Page(built_html(alone)).rows] == ["rank", "2", "4"]


def test_a_lora_is_a_row_a_block_with_its_parameters(bench: Bench) -> None:
    """Parameters are those of both factors: ``r (O + I)``, counted by hand."""
    lora = lorapipe.load(bench.lora("a", rank=8))
    html = lora._repr_html_()

    assert "<b>LoRA, SD1.x, 4 modules, rank 8</b>" in html
    assert Page(html).rows == [
        ["model", "block", "modules", "rank", "parameters"],
        ["unet", "IN01", "3", "8", f" {8 * ((20 + 20) + (20 + 20) + (20 + 12 * 9)):,}"],
        ["te", "BASE", "1", "8", f" {8 * (24 + 16):,}"],
    ]


def test_a_checkpoint_is_a_line(bench: Bench) -> None:
    base = lorapipe.load(bench.checkpoint())
    assert isinstance(base.value.spec, CheckpointSpec)
    assert "<b>checkpoint, SD1.x, " in base._repr_html_()


def test_of_many_rows_the_rest_is_counted(bench: Bench) -> None:
    bench.lora("a")
    steps = "".join(f"s{n}: {{scale: {'a' if n == 1 else f's{n - 1}'}, by: 0.5}}\n" for n in range(1, 200))
    recipe = bench.recipe(f"a: {{load: a.safetensors}}\n{steps}o: {{save: s199, to: o.safetensors}}")
    html = plan_html(plan(load_recipe(recipe)))
    assert Page(html).rows[-1] == ["and 121 more"]
    assert len(html) < 30_000


def test_nothing_is_fetched_and_no_colour_is_set_that_hides_text(bench: Bench) -> None:
    bench.lora("a")
    made = plan(load_recipe(bench.recipe(STEPS)))
    page = Page(plan_html(made))
    assert page.tags <= {"div", "style", "b", "table", "thead", "tbody", "tr", "th", "td", "br", "small", "p"}
    assert page.attributes <= {"class", "scope"}
    style = plan_html(made).split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert set(_declared(style, "color")) == {"inherit"}


def _declared(style: str, wanted: str) -> list[str]:
    declarations = style.replace("{", ";").replace("}", ";").split(";")
    return [d.split(":")[1] for d in declarations if d.split(":")[0] == wanted]


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_text(bench: Bench, name: str) -> None:
    lora = lorapipe.load(bench.lora("a"))
    spec = lora.value.spec
    assert isinstance(spec, AdapterSpec)
    modules = {module._replace(component=name): known for module, known in spec.modules.items()}
    page = Page(spec_html(replace(spec, modules=modules, family=None)))
    assert page.tags == {"div", "style", "b", "table", "thead", "tbody", "tr", "th", "td", "span", "i"}
    assert not [c for row in page.rows for cell in row for c in cell if not c.isprintable()]


def test_a_build_as_it_goes_is_one_thing_on_the_page_that_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lorapipe.views.notebook._EVERY_S", 0.0)
    pages: list[str] = []

    def display(html: str) -> Update:
        pages.append(html)
        return pages.append

    with notebook_view(display, Teller(steps=False)) as tell:
        tell(StepStarted("o", "save", 1, 1))
        tell(Progress("o", 1, 2, "bytes"))
        tell(Note("o", "fact", "<script>\x1b[31m"))

    assert len(pages) == 5
    assert all(page.startswith("<pre>") and Page(page).tags == {"pre"} for page in pages)
    assert "50%" in pages[2]
    assert "o: fact: &lt;script&gt;\\x1b[31m\n" in pages[-1]


def test_progress_of_the_api_is_shown_or_told(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    bench.lora("a")
    recipe = bench.recipe(STEPS)
    heard: list[object] = []
    lorapipe.run(recipe, progress=heard.append)
    assert [type(event).__name__ for event in heard[-2:]] == ["OutputReady", "StepDone"]
    assert capfd.readouterr() == ("", "")

    lorapipe.run(recipe, options=Options(force=True, output_root=bench.folder / "two"), progress="auto")
    assert "[2/2] out: written" in capfd.readouterr().err
    lorapipe.run(recipe)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(lorapipe.LorapipeError, match="it is one of auto, live, plain, json, none"):
        lorapipe.run(recipe, progress="bar")


def test_the_values_are_shown_without_a_library_for_notebooks(bench: Bench) -> None:
    import sys

    assert lorapipe.load(bench.lora("a"))._repr_html_()
    assert "IPython" not in sys.modules
    assert Path(lorapipe.__file__).parent.is_dir()
