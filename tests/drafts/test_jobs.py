"""Files for a job: too few, too many, of the wrong sort or of several models are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorapipe.drafts.finding import Found
from lorapipe.drafts.jobs import JOBS, Chosen, choose, fill
from lorapipe.drafts.sheet import Sheet
from lorapipe.errors import LorapipeError, RecipeError
from lorapipe.recipe.draft import render
from lorapipe.recipe.parsing import parse


def lora(name: str, *families: str) -> Chosen:
    return Found(name, True, frozenset(families), "/".join(families) or "unknown family", "LoRA"), 1.0


def model(name: str, *families: str) -> Chosen:
    return Found(name, False, frozenset(families), "/".join(families) or "unknown family", "checkpoint"), 1.0


A, B = lora("a.safetensors", "sd1"), lora("b.safetensors", "sd1")
BASE, TUNED = model("base.safetensors", "sd1"), model("tuned.safetensors", "sd1")


TWO = "'extract' needs two checkpoints, one of them the --base; there is"


@pytest.mark.parametrize(
    ("job", "files", "base", "message"),
    [
        ("concat", [], None, "there is no LoRA"),
        ("concat", [A, BASE], None, "there are checkpoints: base.safetensors"),
        ("concat", [A], BASE, "'concat' takes no checkpoint"),
        ("concat", [A], B, "'b.safetensors' is a LoRA"),
        ("merge", [A], None, "'merge' needs a checkpoint; there is none"),
        ("merge", [A, BASE, TUNED], None, "there are checkpoints: base.safetensors, tuned.safetensors"),
        ("merge", [BASE], None, "there is no LoRA"),
        ("extract", [TUNED], None, f"{TWO} tuned.safetensors"),
        ("extract", [TUNED, BASE], None, f"{TWO} tuned.safetensors, base.safetensors"),
        ("extract", [A, TUNED], BASE, "'a.safetensors' is a LoRA"),
    ],
)
def test_files_that_do_not_make_the_job(
    job: str, files: list[Chosen], base: Chosen | None, message: str
) -> None:
    with pytest.raises(LorapipeError) as caught:
        choose(job, files, None if base is None else base[0])
    assert (caught.value.message, caught.value.exit_status) == (message, 2)
    assert caught.value.hint


def test_a_rank_where_none_is_taken() -> None:
    with pytest.raises(LorapipeError, match="'concat' takes no rank"):
        choose("concat", [A], rank=4)


@pytest.mark.parametrize(
    "files",
    [[A, lora("x.pt", "sdxl")], [A, lora("x.pt")], [model("base.pt", "flux1"), A]],
)
def test_several_models_are_refused_with_names(files: list[Chosen]) -> None:
    with pytest.raises(RecipeError) as caught:
        choose("merge" if not files[0][0].lora else "concat", files)
    assert caught.value.code == "family-mismatch"
    assert "a.safetensors (sd1)" in caught.value.message
    for one, _ in files:
        assert f"{one.given} ({one.title})" in caught.value.message


def test_variants_of_one_model_go_together_and_unknown_ones_with_unknown() -> None:
    choose("concat", [lora("a", "flux1", "flux1-dev"), lora("b", "flux1-dev")])
    choose("concat", [lora("a"), lora("b")])


@pytest.mark.parametrize("job", JOBS)
def test_every_job_writes_a_recipe_with_comments(job: str) -> None:
    files = [TUNED] if job == "extract" else [A, B]
    order = choose(job, files, BASE[0] if JOBS[job].checkpoints else None)
    sheet = Sheet(Path("/r"), Path("/r"), {"a.safetensors": "LoRA $(x) # {"})
    fill(job, order, sheet, "out/o.safetensors", {"dtype": "fp16"})
    text = render(sheet.draft("some"))
    recipe = parse(text)
    saved = [step for step in recipe.steps.values() if step.written == "out"]
    assert {step.params["dtype"] for step in saved} == {"fp16"}
    strengths = ["-0.4", "-0.6", "-0.8", "-1.0"] if job == "sweep" else [""]
    assert [step.params["to"] for step in saved] == [f"out/o{strength}.safetensors" for strength in strengths]
    assert text.count("#") >= 3
