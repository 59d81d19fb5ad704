"""The part of the page on a sweep, and what a page of many variants leaves together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft7Validator

from lorapipe.build.looking.recording import Recording
from lorapipe.build.looking.report import Report
from lorapipe.build.looking.reporting import report_recipe
from lorapipe.build.planning import Options
from lorapipe.build.run import build
from lorapipe.build.sweep import Quantity, Sweep, SweepTable, Variant
from lorapipe.errors import LorapipeError
from lorapipe.recipe.parsing import load_recipe
from lorapipe.recipe.schemas import schema_file
from lorapipe.recipe.selection import parse_only
from lorapipe.views.report.as_json import report_json
from lorapipe.views.report.page import report_html
from lorapipe.views.report.sweeps import sweep_part

from ...bench import Bench
from ..screens import HOSTILE
from .pages import Page, read_page

STEPS = """
    base: {load: base.safetensors}
    a: {load: a.safetensors}
    b: {load: b.safetensors}
    both: {concat: {a: $(strength), b: -1.0}}
    small: {svd-resize: both, rank: $(rank)}
    good: {check: small, energy: {of: both, total: $(least)}}
    lora: {save: small, to: out/s$(strength)-r$(rank).safetensors}
    model: {merge-into-checkpoint: base, loras: {small: 0.5}}
    merged: {save: model, to: out/model-s$(strength)-r$(rank).safetensors}
"""
HEAD = "params: {least: 0.0}\nmatrix: {strength: [0.5, 0.75, 1.0], rank: [2, 6]}\n"


def kitchen(bench: Bench) -> Bench:
    bench.checkpoint()
    bench.lora("a", rank=8)
    bench.lora("b", rank=8, seed=1)
    bench.recipe(STEPS, head=HEAD)
    return bench


def reported(bench: Bench, **params: Any) -> Report:
    """The report of a run, whatever its checks say."""
    recipe, recording = load_recipe(bench.folder / "r.yaml", params), Recording()
    try:
        build(recipe, Options(workers=1), listen=recording.tell)
    except LorapipeError as error:
        recording.ended(error)
    return report_recipe(recipe, recording=recording)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Report]:
    folder: Path = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAPIPE_STORE", str(folder / "store"))
        patch.delenv("LORAPIPE_MODELS", raising=False)
        bench = kitchen(Bench(folder))
        return bench, reported(bench)


def part(sweep: Sweep) -> Page:
    made = sweep_part(sweep)
    assert made is not None
    return read_page(made)


def table(of: str, axes: dict[str, list[Any]], *, missing: int = 0) -> Sweep:
    """A sweep with a figure that is the sum of the places of its values."""
    found: list[dict[str, Any]] = [{}]
    for axis, values in axes.items():
        found = [{**one, axis: value} for one in found for value in values]
    variants = tuple(
        Variant(
            step=f"{of}[{n}]",
            values=values,
            state="written",
            path=Path(f"/out/{n}.safetensors"),
            size=1000 * (n + 1),
            figures={"energy kept": 1 / (n + 2)},
        )
        for n, values in enumerate(found)
    )
    known = {axis: tuple(values) for axis, values in axes.items()}
    quantities = (Quantity("energy kept", "share"),)
    return Sweep(known, (SweepTable(of, known, quantities, variants[missing:]),))


def test_norm_and_ranks_are_those_of_the_files_written(swept: tuple[Bench, Report]) -> None:
    """Against numpy's singular values of what safetensors reads from each output."""
    from safetensors.numpy import load_file

    _, report = swept
    assert report.sweep is not None
    lora, merged = report.sweep.tables
    for one in lora.variants:
        assert isinstance(one.path, Path)
        held, squares = load_file(one.path), []
        for name in [name for name in held if name.endswith("lora_up.weight")]:
            up, down = held[name], held[name.replace("_up", "_down")]
            scale = held[name.replace("lora_up.weight", "alpha")] / down.shape[0]
            delta = (
                scale
                * up.reshape(up.shape[0], -1).astype("f8")
                @ down.reshape(down.shape[0], -1).astype("f8")
            )
            squares.append(np.pad(np.linalg.svd(delta, compute_uv=False) ** 2, (0, 64))[:64])
        pooled = np.sum(squares, axis=0)
        assert one.figures["norm"] == pytest.approx(pooled.sum() ** 0.5, rel=1e-5)
        assert one.figures["stable rank"] == pytest.approx(pooled.sum() / pooled[0], rel=1e-5)
        kept = np.cumsum(pooled) / pooled.sum()
        assert one.figures["rank for 90%"] == int(np.argmax(kept >= 0.9)) + 1
    assert "norm" not in merged.variants[0].figures  # a checkpoint has none of its own


def test_over_two_axes_each_figure_is_a_grid_and_the_table_has_every_number(
    swept: tuple[Bench, Report],
) -> None:
    _, report = swept
    assert report.sweep is not None
    page = part(report.sweep)
    titles = [t for t in page.texts if t.endswith(" of lora")]
    assert {"energy kept of lora", "norm of lora", "size of lora"} <= set(titles)
    exact = {float(value or "nan") for value in page.attributes("data-v") if value}
    lora = report.sweep.tables[0]
    for one in lora.variants:
        assert set(one.figures.values()) <= exact
        assert float(one.size or 0) in exact
    cells = [attributes for name, attributes in page.elements if name == "rect"]
    assert len([cell for cell in cells if str(cell["class"]).startswith("h")]) >= 6 * 4


def test_over_one_axis_it_is_a_line_and_over_three_a_table_alone() -> None:
    one = part(table("o", {"rank": [2, 4, 8]}))
    assert len([name for name, _ in one.elements if name == "polyline"]) == 2  # energy and size
    assert "From 25.00% at rank 8 to 50.00% at rank 2." in one.texts
    three = part(table("o", {"rank": [2, 4], "strength": [0.5, 1.0], "mode": ["a", "b"]}))
    assert not [name for name, _ in three.elements if name == "svg"]
    assert len([name for name, _ in three.elements if name == "tr"]) == 9
    assert "Over more than two axes there is no picture: the table sorts by any column." in three.texts


def test_an_axis_of_one_value_is_no_axis_of_a_picture() -> None:
    page = part(table("o", {"rank": [2, 4, 8], "strength": [0.5]}))
    assert [name for name, _ in page.elements].count("polyline") == 2
    alone = part(table("o", {"rank": [2]}))
    assert not [name for name, _ in alone.elements if name == "svg"]


def test_a_combination_that_is_excluded_is_an_empty_cell() -> None:
    page = part(table("o", {"rank": [2, 4], "strength": [0.5, 1.0]}, missing=1))
    classes = [attributes["class"] for name, attributes in page.elements if name == "rect"]
    assert classes.count("none") == 2  # one in each of two pictures


def test_more_values_than_a_picture_has_room_for_are_a_table() -> None:
    page = part(table("o", {"a": list(range(60)), "b": list(range(17))}))
    assert not [name for name, _ in page.elements if name == "svg"]


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_values_stay_text(name: str) -> None:
    sweep = table(name, {name: [name, f"{name}2"], "x": ["a", "b"]})
    odd = tuple(
        replace(one, state="held back", failed=(name,), size=None) for one in sweep.tables[0].variants[:1]
    )
    page = part(
        replace(sweep, tables=(replace(sweep.tables[0], variants=odd + sweep.tables[0].variants[1:]),) * 2)
    )
    assert {tag for tag, _ in page.elements} <= {
        "section", "h2", "h3", "div", "dl", "dt", "dd", "bdi", "figure", "figcaption", "svg", "title", "desc",
        "text", "rect", "table", "caption", "thead", "tbody", "tr", "th", "td", "span", "p",
    }  # fmt: skip


def test_a_variant_that_is_held_back_is_seen_and_the_rest_is_measured(swept: tuple[Bench, Report]) -> None:
    bench, before = swept
    assert before.sweep is not None
    middle = sorted(one.figures["energy in all"] for one in before.sweep.tables[0].variants)[3]
    root = bench.folder / "strict"
    recipe, recording = load_recipe(bench.folder / "r.yaml", {"least": middle}), Recording()
    options = Options(workers=1, output_root=root, lock=root / "r.lock")
    with pytest.raises(LorapipeError) as raised:
        build(recipe, options, listen=recording.tell)
    recording.ended(raised.value)
    report = report_recipe(recipe, options, recording=recording)
    assert report.sweep is not None
    held = [one for one in report.sweep.tables[0].variants if one.failed]
    assert len(held) == 3
    assert {one.state for one in held} == {"held back"}
    text = read_page(report_html(report)).text
    assert "held back by good" in text


def test_many_variants_are_one_box_and_one_row_and_have_no_portraits(swept: tuple[Bench, Report]) -> None:
    _, report = swept
    assert {portrait.step for portrait in report.portraits} == {"a", "b"}
    page = read_page(report_html(report))
    boxes = [t for t in page.texts if t == "6 variants"]
    assert len(boxes) == 5  # small, good, lora, model, merged; of both there are three
    assert page.text.count("both[strength=") >= 3
    assert "small[strength=" not in page.text
    assert any("merges moves the checkpoint is told where --only" in text for text in page.texts)


def test_a_few_variants_are_shown_in_full(bench: Bench) -> None:
    kitchen(bench)
    recipe = load_recipe(bench.folder / "r.yaml")
    options = Options(workers=1, only=parse_only(["strength=0.5"]))
    build(recipe, options)
    report = report_recipe(recipe, options)
    assert {p.step for p in report.portraits} == {
        "a", "b", "lora[strength=0.5,rank=2]", "lora[strength=0.5,rank=6]",
    }  # fmt: skip
    assert len(report.merged) == 2
    assert report.many == frozenset()
    assert report.sweep is not None
    assert report.sweep.tables[0].axes == {"strength": (0.5,), "rank": (2, 6)}


def test_before_a_run_the_table_says_what_would_be(bench: Bench) -> None:
    report = report_recipe(load_recipe(kitchen(bench).folder / "r.yaml"))
    assert report.sweep is not None
    assert {one.state for one in report.sweep.tables[0].variants} == {"will run"}
    assert "6 variants: will run" in read_page(report_html(report)).text


def test_a_page_of_hundreds_of_variants_stays_small(swept: tuple[Bench, Report]) -> None:
    _, report = swept
    many = table("lora", {"strength": list(range(12)), "rank": list(range(16))})
    assert len(report_html(replace(report, sweep=many))) < 1_000_000


def test_as_json_it_is_what_the_schema_says(swept: tuple[Bench, Report]) -> None:
    _, report = swept
    told = json.loads(json.dumps(report_json(report), allow_nan=False))
    Draft7Validator(json.loads(schema_file("report.v1.schema.json").read_text())).validate(told)
    assert [of["step"] for of in told["sweep"]["outputs"]] == ["lora", "merged"]
    step = next(step for step in told["steps"] if step["id"] == "small[strength=0.5,rank=2]")
    assert (step["variant-of"], step["axes"]) == ("small", {"strength": 0.5, "rank": 2})


def test_the_pictures_are_the_same_each_time(swept: tuple[Bench, Report]) -> None:
    _, report = swept
    assert report_html(report) == report_html(report)
