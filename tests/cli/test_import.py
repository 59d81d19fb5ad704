"""``lorapipe import``: a valid recipe, to where it was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorapipe.cli import main
from lorapipe.recipe.parsing import load_recipe

COMMAND = (
    "python networks/merge_lora.py --models x/a.safetensors --ratios 0.5 --concat --save_to r/c.safetensors"
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_recipe_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "kohya", "--", *COMMAND.split()]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("# From: python networks/merge_lora.py")
    assert "a: {load: x/a.safetensors}" in said.out
    assert said.err == ""


def test_a_written_recipe_sees_its_files_from_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("r").mkdir()
    assert main(["import", "kohya", "-o", "r/c.yaml", "--", *COMMAND.split()]) == 0
    assert capsys.readouterr().out == ""
    steps = load_recipe("r/c.yaml").steps
    assert (steps["a"].params["load"], steps["out"].params["to"]) == ("../x/a.safetensors", "c.safetensors")


def test_a_recipe_that_is_there_is_not_replaced_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text("mine\n")
    assert main(["import", "kohya", "-o", "c.yaml", "--", *COMMAND.split()]) == 5
    assert "'c.yaml' is there" in capsys.readouterr().err
    assert Path("c.yaml").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["python", "mrege_lora.py"], "did you mean 'merge_lora'?"),
        (["merge_lora.py", "--models", "a"], "the following arguments are required: --save_to"),
        (
            ["extract_lora_from_dylora.py", "--model", "no.pt", "--save_to", "c", "--unit", "4"],
            "no.pt: error: no such file",
        ),
    ],
)
def test_what_cannot_be_imported_is_said(
    capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    assert main(["import", "kohya", "--", *words]) in (2, 4)
    said = capsys.readouterr()
    assert text in said.err
    assert said.out == ""
