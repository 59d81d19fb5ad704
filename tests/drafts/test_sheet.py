"""A recipe filled in step by step: paths are seen from it, ids are its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lorapipe.drafts.sheet import Sheet
from lorapipe.recipe.draft import render
from lorapipe.recipe.parsing import parse


@pytest.fixture
def sheet(tmp_path: Path) -> Sheet:
    """A recipe in ``r/`` of a command that ran beside it."""
    return Sheet(tmp_path / "r", tmp_path)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("a.safetensors", "../a.safetensors"),
        ("r/a.safetensors", "a.safetensors"),
        ("./r/../b/a.safetensors", "../b/a.safetensors"),
        ("/models/a.safetensors", "/models/a.safetensors"),
        ("r/a$(x).safetensors", "a$$(x).safetensors"),
    ],
)
def test_inputs_are_seen_from_the_recipe(sheet: Sheet, given: str, written: str) -> None:
    step = sheet.load(given)
    assert sheet.draft().steps[step] == {"load": written}


def test_a_path_written_leads_to_the_file_given(sheet: Sheet, tmp_path: Path) -> None:
    step = sheet.load("x/../y/a.safetensors")
    written = parse(render(sheet.draft())).steps[step].params["load"]
    assert os.path.normpath(tmp_path / "r" / str(written)) == os.path.normpath(sheet.found("y/a.safetensors"))


def test_files_of_one_name_become_steps_of_their_own(sheet: Sheet) -> None:
    assert [sheet.load("x/a.safetensors"), sheet.load("y/a.safetensors"), sheet.load("A.safetensors")] == [
        "a",
        "a-2",
        "a-3",
    ]


def test_an_output_in_the_recipes_folder_is_written_as_it_is(sheet: Sheet) -> None:
    step = sheet.save(sheet.load("a.safetensors"), "r/out/b.safetensors", {"dtype": "fp16"})
    assert sheet.draft().steps[step] == {"save": "a", "to": "out/b.safetensors", "dtype": "fp16"}
    assert step not in sheet.draft().remarks


@pytest.mark.parametrize(
    ("given", "root"), [("out/b.safetensors", "../out"), ("/data/b.safetensors", "/data")]
)
def test_an_output_elsewhere_says_how_to_run_it(sheet: Sheet, given: str, root: str) -> None:
    step = sheet.save(sheet.load("a.safetensors"), given)
    assert sheet.draft().steps[step]["to"] == "b.safetensors"
    assert sheet.draft().remarks[step][-1].endswith(f"--output-root {root}")


def test_what_is_told_stands_at_the_head_and_above_its_step(sheet: Sheet) -> None:
    sheet.tell("From a test.")
    sheet.add("both", {"concat": [sheet.load("a.safetensors")]}, "The sum.")
    text = render(sheet.draft("named"))
    assert text.startswith("# From a test.\nlorapipe: 1\nname: named\n")
    assert "  # The sum.\n  both: {concat: [a]}\n" in text
