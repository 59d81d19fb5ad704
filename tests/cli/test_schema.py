"""``lorapipe schema``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from lorapipe.cli import main
from lorapipe.recipe.language import core_language
from lorapipe.recipe.schemas import bundle


def test_the_bundle_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == bundle(core_language().files)


def test_the_bundle_is_written_and_the_modeline_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["schema", "--write"]) == 0
    assert main(["schema", "--write", "deep/er"]) == 0
    assert capsys.readouterr().out == (
        "wrote recipe.v1.schema.json\n"
        "put this line first in a recipe beside it:\n"
        "# yaml-language-server: $schema=recipe.v1.schema.json\n"
        "wrote deep/er/recipe.v1.schema.json\n"
        "put this line first in a recipe beside it:\n"
        "# yaml-language-server: $schema=recipe.v1.schema.json\n"
    )
    written = json.loads(Path("recipe.v1.schema.json").read_text(encoding="utf-8"))
    assert written == json.loads(Path("deep/er/recipe.v1.schema.json").read_text(encoding="utf-8"))
    recipe = yaml.safe_load("{lorapipe: 1, steps: {a: {load: f}, b: {shuffle: a}}}")
    assert Draft7Validator(written).is_valid(recipe)
    recipe["steps"]["b"]["sede"] = 1
    assert not Draft7Validator(written).is_valid(recipe)


def test_what_cannot_be_written_is_an_error_of_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("", encoding="utf-8")
    assert main(["schema", "--write", "file/x"]) == 5
    assert capsys.readouterr().err == (
        "file/x/recipe.v1.schema.json: error: the schema cannot be written: not a directory"
        " - choose another folder, or see that you may write this one\n"
    )


def test_a_folder_without_write_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "somewhere"]) == 2
    assert "a FOLDER goes with --write" in capsys.readouterr().err
