"""``lorapipe report`` and ``run --report``: what they write where, and what they do not replace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorapipe.cli import main

from ..bench import Bench

STEPS = """
    a: {load: a.safetensors}
    small: {svd-resize: a, rank: 2}
    out: {save: small, to: out/o.safetensors}
"""


@pytest.fixture
def kitchen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench.lora("a")
    bench.recipe(STEPS)
    monkeypatch.chdir(bench.folder)
    return bench


def test_a_recipe_becomes_a_page(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "r.yaml"]) == 0
    page = (kitchen.folder / "report.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("report.html: ")
    assert not (kitchen.folder / "out").exists()


def test_files_become_a_page_at_a_path_of_ones_own(kitchen: Bench) -> None:
    assert main(["report", "a.safetensors", "-o", "pages/a.html"]) == 0
    assert "a.safetensors" in (kitchen.folder / "pages" / "a.html").read_text("utf-8")


def test_json_is_printed_and_no_page_is_written(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "a.safetensors", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["loras"][0]["modules"]) == (1, 4)
    assert not (kitchen.folder / "report.html").exists()


def test_a_run_is_reported_with_its_times(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "r.yaml", "--report", "run.html"]) == 0
    page = (kitchen.folder / "run.html").read_text("utf-8")
    assert "Report of a run of" in page
    assert "written" in page
    assert "report: run.html" in capsys.readouterr().err


def test_a_run_in_which_a_check_fails_is_reported_too(kitchen: Bench) -> None:
    kitchen.recipe(STEPS + "    good: {check: small, norm: {max: 1e-6}}\n")
    assert main(["run", "r.yaml", "-q", "--report", "run.html"]) == 8
    page = (kitchen.folder / "run.html").read_text("utf-8")
    assert "does not hold" in page
    assert "held back" in page


def test_a_run_that_fails_otherwise_leaves_no_report(kitchen: Bench) -> None:
    (kitchen.folder / "out").mkdir()
    (kitchen.folder / "out" / "o.safetensors").write_bytes(b"mine")
    assert main(["run", "r.yaml", "-q", "--report", "run.html"]) == 5
    assert not (kitchen.folder / "run.html").exists()


def test_a_run_with_nothing_to_do_is_reported_as_it_stands(kitchen: Bench) -> None:
    assert main(["run", "r.yaml", "-q"]) == 0
    assert main(["run", "r.yaml", "-q", "--report", "run.html"]) == 0
    page = (kitchen.folder / "run.html").read_text("utf-8")
    assert "Report of the state of" in page
    assert "up to date" in page


def test_a_run_that_is_held_to_its_lock_can_be_reported(kitchen: Bench) -> None:
    assert main(["run", "r.yaml", "-q"]) == 0
    (kitchen.folder / "out" / "o.safetensors").unlink()
    assert main(["run", "r.yaml", "-q", "--frozen", "--report", "run.html"]) == 0
    assert "Report of a run of" in (kitchen.folder / "run.html").read_text("utf-8")


def test_outputs_elsewhere_are_measured_there(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "r.yaml", "-q", "--output-root", "other", "--report", "run.html"]) == 0
    assert main(["report", "r.yaml", "--output-root", "other", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(lora["step"], lora["role"]) for lora in told["loras"]] == [("a", "input"), ("out", "output")]


def test_a_report_is_replaced_and_nothing_else_is(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["report", "a.safetensors"]) == 0
    path = kitchen.folder / "notes.html"
    path.write_text("my notes")
    capsys.readouterr()
    for command in (["report", "a.safetensors", "-o"], ["run", "r.yaml", "--report"]):
        assert main([*command, "notes.html"]) == 5
        said = capsys.readouterr().err
        assert "'notes.html' is there and is no report - give another name to -o, or --force" in said
    assert path.read_text() == "my notes"
    assert not (kitchen.folder / "out").exists()
    assert main(["report", "a.safetensors", "-o", "notes.html", "--force"]) == 0
    assert path.read_text("utf-8").startswith("<!doctype html>")


def test_a_report_is_of_one_recipe(kitchen: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "r.yaml", "a.safetensors"]) == 2
    assert "'r.yaml' is a recipe, and a report is of one recipe, or of files" in capsys.readouterr().err


def test_params_are_set_and_inputs_found_as_in_a_run(kitchen: Bench, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (kitchen.folder / "a.safetensors").rename(models / "a.safetensors")
    kitchen.recipe(STEPS.replace("rank: 2", "rank: $(r)"), head="params: {r: 2}\n")
    assert main(["report", "r.yaml", "--set", "r=3", "--models", str(models)]) == 0


def test_what_is_wrong_with_a_recipe_is_said_as_by_a_plan(
    kitchen: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    kitchen.recipe(STEPS.replace("a.safetensors", "none.safetensors"))
    assert main(["report", "r.yaml"]) == 4
    assert "none.safetensors" in capsys.readouterr().err
    assert not (kitchen.folder / "report.html").exists()
