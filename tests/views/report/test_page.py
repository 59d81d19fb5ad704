"""The page: one file, closed in itself, whatever names it holds; all of its numbers are in the JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lorapipe.build.looking.report import Portrait, Report
from lorapipe.build.looking.reporting import report_files
from lorapipe.views.report.as_json import report_json
from lorapipe.views.report.page import GENERATOR, report_html
from lorapipe.views.report.script import SCRIPT
from lorapipe.views.report.style import STYLE
from lorapipe.weights.figures import Figures
from lorapipe.weights.specs import AdapterSpec, ModuleId, ModuleSpec, Spelling

from ...bench import SHAPES, Bench
from .pages import Page, numbers_of, read_page

FOREIGN = {"img", "iframe", "link", "object", "embed", "base", "form", "input", "image", "use"}

HOSTILE = [
    "<script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "</style><style>*{display:none}",
    "javascript:alert(1)",
    "&lt;b&gt; &amp;",
    "\u202egnp.exe \u2066x",
    "\x1b[31mred\x00\x07",
    "\ud800 half a pair",
    "a" * 10_240,
    "<!-- ",
    "{{7*7}} ${7*7}",
]


def closed(page: Page) -> None:
    """Nothing outside of the page is asked for, and nothing but its own script can run."""
    for tag, attributes in page.elements:
        assert tag not in {
            "img",
            "iframe",
            "link",
            "object",
            "embed",
            "base",
            "form",
            "input",
            "image",
            "use",
        }
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in {"src", "srcset", "style", "xlink:href", "action"}, (tag, name)
            if name == "href":
                assert (value or "").startswith("#"), value
    assert page.raw["script"] == [SCRIPT]
    assert page.raw["style"] == [STYLE]
    assert not re.search(r"url\(|@import|https?:", STYLE + SCRIPT)


# --- closed in itself -------------------------------------------------------------------


def test_the_page_is_one_file_that_asks_for_nothing(reports: tuple[Report, Report]) -> None:
    for report in reports:
        text = report_html(report)
        closed(read_page(text))
        assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {"http://www.w3.org/2000/svg"}


def test_its_policy_lets_in_its_own_style_and_script_alone(ran: Report) -> None:
    page = read_page(report_html(ran))
    (policy,) = [a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a]
    assert policy is not None
    for name, text in (("style-src", STYLE), ("script-src", SCRIPT)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_it_says_what_made_it_near_its_beginning(ran: Report) -> None:
    assert f'name="generator" content="{GENERATOR}"' in report_html(ran)[:1500]


def test_every_picture_has_a_name_a_description_and_a_table_near_it(ran: Report) -> None:
    page = read_page(report_html(ran))
    ids = set(page.attributes("id"))
    pictures = [a for t, a in page.elements if t == "svg"]
    assert len(pictures) > 8
    for picture in pictures:
        named = (picture["aria-labelledby"] or "").split()
        assert picture["role"] == "img"
        assert len(named) == 2
        assert set(named) <= ids
    assert len(page.attributes("id")) == len(ids)
    sections = [tag for tag, _ in page.elements if tag in ("section", "svg", "table")]
    for number, tag in enumerate(sections):
        if tag == "svg":
            assert "table" in sections[number : number + 8]


def test_its_parts_can_be_reached_from_its_head_and_by_keyboard(ran: Report) -> None:
    page = read_page(report_html(ran))
    ids = set(page.attributes("id"))
    links = [(value or "")[1:] for value in page.attributes("href")]
    assert links
    assert set(links) <= ids
    scrolled = [a for _, a in page.elements if a.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolled)


# --- numbers ----------------------------------------------------------------------------


def test_every_number_of_a_table_is_in_the_json(ran: Report) -> None:
    page = read_page(report_html(ran))
    shown = {float(value or "nan") for value in page.attributes("data-v")}
    known = numbers_of(json.loads(json.dumps(report_json(ran))))
    counted = {float(len(ran.portraits)), float(len(ran.plan.steps))}
    assert len(shown) > 150
    assert shown <= known | counted


def test_the_page_tells_of_every_part_of_the_report(ran: Report) -> None:
    text = read_page(report_html(ran)).text
    for said in (
        "The build",
        "Inputs and outputs",
        "does not hold",
        "Modules without a place",
        "the checkpoint has no such weight",
        "Pairs of LoRAs",
        "The modules of which small keeps least",
        "Blocks changed by model",
        "Tensors that model changes most and least",
        "with <all> & everything",
        "IN01",
    ):
        assert said in text, said


def test_without_a_run_it_says_what_would_be(planned: Report) -> None:
    text = read_page(report_html(planned)).text
    assert "will run" in text
    assert "outputs due" in text
    assert report_json(planned)["seconds"] is None


# --- hostile names ----------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_leaves_its_place(ran: Report, name: str) -> None:
    others, meeting = ran.portraits[1:], ran.meetings[0]
    module = ModuleId(name, name)
    spec = AdapterSpec(None, {module: ModuleSpec((4, 4), 2, Spelling(name))}, name)
    odd = Portrait(name, Path(name), False, spec, {(name, name): (module,)}, {module: Figures((2.0, 1.0))})
    shown = replace(
        ran,
        title=name,
        portraits=(odd, *others),
        meetings=(replace(meeting, one=name, two=name),),
        merged=(replace(ran.merged[0], step=name),),
        resized=(replace(ran.resized[0], step=name, energy={name: 0.5}),),
        lost=(replace(ran.lost[0], module=name, reason=name),),
        checked=(replace(ran.checked[0], asserted=(name,)),),
        errors=(name,),
        untold=(name,),
        files=tuple(replace(file, path=Path(name), state=name) for file in ran.files),
    )
    text = report_html(shown)
    page = read_page(text)
    closed(page)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert len(text) < 400_000
    assert "a" * 1000 not in text
    plain = read_page(report_html(ran))
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements}
    assert json.loads(json.dumps(report_json(shown)))["title"] == name
    text.encode()


# --- size -------------------------------------------------------------------------------


def test_a_page_on_four_loras_of_sdxl_is_below_two_megabytes() -> None:
    """986 modules each, as many as an SDXL LoRA has, in blocks as large as its."""
    head = "model.diffusion_model.input_blocks.7.1"
    modules = tuple(
        ModuleId("unet", f"{head}.transformer_blocks.{n}.attn1.to_out.0.weight") for n in range(986)
    )
    spec = AdapterSpec("sdxl", {m: ModuleSpec((1280, 1280), 32, Spelling("x")) for m in modules}, "F16")
    blocks = {("unet", f"IN{n:02}"): modules[n * 50 : (n + 1) * 50] for n in range(20)}
    figures = {m: Figures(tuple(1.7 / (j + 1.23) for j in range(32))) for m in modules}
    report = _empty()
    shown = [Portrait(f"l{n}", Path(f"l{n}.safetensors"), False, spec, blocks, figures) for n in range(4)]
    text = report_html(replace(report, portraits=tuple(shown)))
    read_page(text)
    assert len(text.encode()) < 2_000_000
    assert "strongest of 986 modules" in text


def _empty() -> Report:
    from lorapipe.build.looking.reporting import files_recipe
    from lorapipe.plan.lineage import Profile
    from lorapipe.plan.plan import Plan

    plan = Plan(files_recipe([Path("l.safetensors")]), "cpu", Profile("2", "cpu", "float64"), {}, (), ())
    return Report(
        title="l",
        recipe=None,
        folder=Path(),
        plan=plan,
        ran={},
        files=(),
        portraits=(),
        meetings=(),
        resized=(),
        merged=(),
        lost=(),
        checked=(),
    )


def test_of_a_thousand_modules_without_a_place_some_are_named_and_all_are_counted(ran: Report) -> None:
    lost = tuple(replace(ran.lost[0], module=f"module_{n}_") for n in range(1000))
    text = read_page(report_html(replace(ran, lost=lost))).text
    assert "1,000 modules have no place" in text
    assert "module_299_" in text
    assert "module_300_" not in text
    assert len(report_json(replace(ran, lost=lost))["unmatched"]) == 1000


def test_a_page_on_nothing_is_a_page() -> None:
    closed(read_page(report_html(_empty())))


def test_modules_without_figures_and_broken_ones_are_told_apart(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.lora("a")
    monkeypatch.chdir(bench.folder)
    report = report_files([Path("a.safetensors")])
    (portrait,) = report.portraits
    first, second, *_ = portrait.figures
    figures = {m: f for m, f in portrait.figures.items() if m != first} | {second: Figures((), finite=False)}
    shown = replace(report, portraits=(replace(portrait, figures=figures),))
    text = read_page(report_html(shown)).text
    assert "1 modules are functions of the weight" in text
    assert "1 modules hold NaN or infinity" in text
    told = report_json(shown)
    found = [m["figures"] for block in told["loras"][0]["blocks"] for m in block["modules"]]
    assert found.count(None) == 1
    assert [f["norm"] for f in found if f].count(None) == 1
    assert len(found) == len(SHAPES)
