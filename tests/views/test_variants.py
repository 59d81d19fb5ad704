"""A plan of a sweep: the variants of a step as one row, and all of them for who asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from lorapipe.build.run import Options, build, plan
from lorapipe.recipe.parsing import load_recipe
from lorapipe.recipe.schemas import schema_file
from lorapipe.recipe.selection import parse_only
from lorapipe.views.plan_json import plan_json
from lorapipe.views.plan_text import print_plan
from lorapipe.views.variants import alike, spanned

from ..bench import SHAPES, TE, Bench
from .screens import log, terminal, text_of

HEAD = "matrix: {strength: [0.5, 1.0], rank: [2, 4, 6]}\n"
STEPS = """
    a: {load: a.safetensors}
    b: {load: $(which).safetensors}
    both: {concat: {a: $(strength), b: -1.0}}
    small: {svd-resize: both, rank: $(rank)}
    good: {check: small, energy: {of: both, total: 0.0}}
    out: {save: small, to: out/s$(strength)-r$(rank).safetensors}
    whole: {save: a, to: out/a.safetensors}
""".replace("$(which)", "b")


@pytest.fixture
def kitchen(bench: Bench) -> Bench:
    bench.lora("a", rank=8)
    bench.lora("b", rank=8, seed=1)
    return bench


def shown(
    bench: Bench, *, each: bool = False, read: bool = True, width: int | None = None, **options: Any
) -> str:
    recipe = load_recipe(bench.folder / "r.yaml")
    console = log() if width is None else terminal(width)
    print_plan(plan(recipe, Options(**options), read=read), bench.folder, each=each, console=console)
    return text_of(console)


def row(text: str, step: str) -> list[str]:
    """The lines of one row of the table."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.split()[:1] == [step])
    rest = lines[start + 1 :]
    more = next(n for n, line in enumerate([*rest, "x"]) if not line.startswith(" "))
    return [lines[start].removeprefix(step).strip(), *(line.strip() for line in rest[:more])]


def test_variants_are_one_row_with_sums_and_counts(kitchen: Bench) -> None:
    kitchen.recipe(STEPS, head=HEAD)
    text = shown(kitchen)
    planned = plan(load_recipe(kitchen.folder / "r.yaml"), read=True)
    small = [planned.steps[f"small[strength={s},rank={r}]"] for s in ("0.5", "1.0") for r in (2, 4, 6)]
    stored = sum(one.cost.written for one in small)
    peak = max(one.cost.peak for one in small)

    assert row(text, "both") == [
        "concat 0.5 to 1 a, -1 b",
        "LoRA, SD1.x, 4 modules, rank 16",
        "2 variants: will run",
    ]
    sizes = f"{stored / 1000:.3g} kB to the store, {peak / 1000:.3g} kB of memory"
    assert row(text, "small") == [
        "svd-resize both",
        f"LoRA, SD1.x, 4 modules, rank 2 ... rank 6, {sizes}",
        "6 variants: will run",
    ]
    good = row(text, "good")
    assert good[1].startswith("energy of 'both' in all at least 0, ")
    assert good[2:] == ["holds back out", "6 variants: will run"]
    assert row(text, "out")[0] == "save small to out/s0.5-r2.safetensors and 5 more"
    assert row(text, "whole")[0] == "save a to out/a.safetensors"
    assert "7 outputs to write, 6 checks to make" in text


def test_what_is_there_already_is_counted_apart(kitchen: Bench) -> None:
    kitchen.recipe(STEPS, head=HEAD)
    recipe = load_recipe(kitchen.folder / "r.yaml")
    build(recipe, Options(workers=1, only=parse_only(["rank=2"])))
    text = shown(kitchen)
    assert row(text, "small")[-1] == "6 variants: 2 in the store, 4 will run"
    assert row(text, "out")[-1] == "6 variants: 2 up to date, 4 will run"
    assert row(shown(kitchen, only=parse_only(["rank=2"])), "out")[-1] == "2 variants: up to date"


def test_checks_that_headers_refute_and_what_they_hold_back_are_counted(kitchen: Bench) -> None:
    kitchen.recipe(STEPS.replace("energy: {of: both, total: 0.0}", "rank: {max: 4}"), head=HEAD)
    text = shown(kitchen)
    assert row(text, "good")[-1] == "6 variants: 4 up to date, 2 do not hold"
    assert row(text, "out")[-1] == "6 variants: 4 will run, 2 held back"


def test_each_variant_is_shown_for_who_asks(kitchen: Bench) -> None:
    kitchen.recipe(STEPS, head=HEAD)
    text = shown(kitchen, each=True)
    assert "variants" not in text
    assert row(text, "small[strength=0.5,rank=6]")[:2] == [
        "svd-resize both[strength=0.5]",
        next(line.strip() for line in text.splitlines() if "rank 6" in line),
    ]
    assert text.count("save small[") == 6


def test_two_hundred_variants_are_no_longer_than_two(kitchen: Bench) -> None:
    heads = [f"matrix: {{strength: [{', '.join(map(str, range(1, n)))}], rank: [2, 4]}}\n" for n in (2, 101)]
    lengths = []
    for head in heads:
        kitchen.recipe(STEPS, head=head)
        lengths.append(len(shown(kitchen, read=False, width=100).splitlines()))
    assert lengths[1] - lengths[0] <= 3
    assert lengths[1] < 50


def test_a_step_of_one_variant_is_shown_as_any_step(kitchen: Bench) -> None:
    kitchen.recipe(STEPS, head="matrix: {strength: [0.5], rank: [2]}\n")
    text = shown(kitchen)
    assert row(text, "small[strength=0.5,rank=2]")[0] == "svd-resize both[strength=0.5]"
    assert "variants" not in text


def test_parts_that_differ_are_spanned_and_others_said_once() -> None:
    assert spanned(["12 tensors", "12 tensors"]) == "12 tensors"
    assert spanned(["LoRA, rank 4, x", "LoRA, rank 8, x", "LoRA, rank 6, x"]) == "LoRA, rank 4 ... rank 6, x"
    assert spanned(["a, b", "a"]) == "a, b and others"


def test_as_json_each_variant_says_of_which_step_it_is(kitchen: Bench) -> None:
    kitchen.recipe(STEPS, head=HEAD)
    made = plan(load_recipe(kitchen.folder / "r.yaml"), read=True)
    told = json.loads(json.dumps(plan_json(made, Path(kitchen.folder)), allow_nan=False))
    Draft7Validator(json.loads(schema_file("plan.v1.schema.json").read_text())).validate(told)

    assert told["matrix"] == {"strength": [0.5, 1.0], "rank": [2, 4, 6]}
    by_id = {step["id"]: step for step in told["steps"]}
    assert by_id["small[strength=1.0,rank=4]"]["written"] == "small"
    assert by_id["small[strength=1.0,rank=4]"]["axes"] == {"strength": 1.0, "rank": 4}
    assert (by_id["a"]["written"], by_id["a"]["axes"]) == ("a", {})


def test_warnings_that_all_variants_have_are_one(kitchen: Bench) -> None:
    lost = TE.replace("layers_0", "layers_1")
    kitchen.checkpoint()
    kitchen.lora("a", rank=8, modules={**SHAPES, lost: SHAPES[TE]})
    steps = """
        base: {load: base.safetensors}
        a: {load: a.safetensors}
        small: {svd-resize: a, rank: $(rank)}
        model: {merge-into-checkpoint: base, loras: {small: 1.0}, unmatched: warn}
        out: {save: model, to: $(rank).safetensors}
    """
    kitchen.recipe(steps, head="matrix: {rank: [2, 4, 6]}\n")
    warnings = [line for line in shown(kitchen).splitlines() if line.startswith("warning")]
    (warning,) = warnings
    assert "small[rank=2]" in warning
    made = plan(load_recipe(kitchen.folder / "r.yaml"), read=True)
    assert len(made.warnings) == 3
    told = list(alike(made, [*made.warnings, "something else [a=b]", "something else [a=c]"]))
    assert told[0].splitlines()[0].endswith("(and 2 more like this, of other variants)")
    assert told[1:] == ["something else [a=b]", "something else [a=c]"]
