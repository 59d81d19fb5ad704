"""Inputs are found and identified; outputs stay where they belong."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lorapipe.errors import InputError, RecipeError
from lorapipe.plan.files import Certainty, Folders, find_input, identify


class _Digests:
    """A memo that knows some files, and counts the files it had to read."""

    def __init__(self, **known: str) -> None:
        self.memo = known
        self.read: list[str] = []

    def known(self, path: Path) -> str | None:
        return self.memo.get(path.stem)

    def hash(self, path: Path) -> str:
        self.read.append(path.stem)
        return "cc" * 32


def test_the_recipes_own_folder_comes_before_the_model_folders(tmp_path: Path) -> None:
    recipe, models = tmp_path / "recipe", tmp_path / "models"
    for folder in (recipe, models):
        folder.mkdir()
        (folder / "a.safetensors").touch()

    found = find_input("a.safetensors", None, Folders(recipe, (models,)), _Digests())

    assert found == recipe / "a.safetensors"


def test_a_file_is_found_in_a_model_folder_by_the_path_that_the_recipe_gives(tmp_path: Path) -> None:
    (tmp_path / "models" / "loras").mkdir(parents=True)
    (tmp_path / "models" / "loras" / "a.safetensors").touch()

    found = find_input("loras/a.safetensors", None, Folders(tmp_path, (tmp_path / "models",)), _Digests())

    assert found == tmp_path / "models" / "loras" / "a.safetensors"


def test_a_pinned_file_that_was_renamed_is_found_by_its_remembered_digest(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "other.safetensors").touch()
    (models / "renamed.safetensors").touch()
    digests = _Digests(renamed="ab" * 32)

    found = find_input("a.safetensors", "AB" * 32, Folders(tmp_path, (models,)), digests)

    assert found == models / "renamed.safetensors"
    assert digests.read == []


def test_a_missing_input_says_where_it_was_looked_for_and_what_is_near(tmp_path: Path) -> None:
    (tmp_path / "char.safetensors").touch()

    with pytest.raises(InputError) as near:
        find_input("chra.safetensors", None, Folders(tmp_path), _Digests())
    with pytest.raises(InputError) as far:
        find_input("x/none.safetensors", None, Folders(tmp_path), _Digests())

    assert str(near.value) == "error: no file 'chra.safetensors' - did you mean 'char.safetensors'?"
    assert str(far.value) == (
        f"error: no file 'x/none.safetensors' - looked in {tmp_path / 'x'}; "
        "--models DIR adds a folder to look in"
    )


@pytest.mark.skipif(os.sep == "\\", reason="there these are names of files")
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (r"loras\ink.safetensors", "folders are parted by /: 'loras/ink.safetensors'"),
        (r".\loras\ink.safetensors", "folders are parted by /: 'loras/ink.safetensors'"),
        (r"C:\loras\ink.safetensors", "a drive is one Windows machine's: "),
        ("C:/loras/ink.safetensors", "a drive is one Windows machine's: "),
        (r"\\server\share\ink.safetensors", "a drive is one Windows machine's: "),
    ],
)
def test_a_path_of_windows_is_told_from_a_missing_file(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "ink.safetensors").touch()

    with pytest.raises(InputError) as missing:
        find_input(name, None, Folders(tmp_path), _Digests())

    assert str(missing.value).startswith(f"error: no file '{name}' - {hint}")


@pytest.mark.parametrize("name", [f"{'x' * 250}.safetensors", f"{'é' * 130}/a.pt"])
def test_a_name_that_no_file_can_have_is_a_fault_of_the_recipe(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match="is longer than a file's can be") as loaded:
        find_input(name, None, Folders(tmp_path), _Digests())
    assert loaded.value.option == "load"


@pytest.mark.parametrize(
    ("known", "pin", "locked", "sha256", "certainty"),
    [
        ({"a": "aa" * 32}, None, None, "aa" * 32, Certainty.CHECKED),
        ({"a": "aa" * 32}, "AA" * 32, "bb" * 32, "aa" * 32, Certainty.CHECKED),
        ({}, "AA" * 32, "bb" * 32, "aa" * 32, Certainty.PINNED),
        ({}, None, "bb" * 32, "bb" * 32, Certainty.LOCKED),
        ({}, None, None, None, Certainty.UNKNOWN),
    ],
)
def test_a_plan_says_how_it_knows_a_digest_and_reads_nothing(
    tmp_path: Path,
    known: dict[str, str],
    pin: str | None,
    locked: str | None,
    sha256: str | None,
    certainty: Certainty,
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"12345")
    digests = _Digests(**known)

    found = identify(path, pin, locked, digests, read=False)

    assert (found.sha256, found.certainty, found.size) == (sha256, certainty, 5)
    assert digests.read == []


def model(folder: Path) -> Path:
    """A model in two files, with a config, and something hidden."""
    (folder / ".git").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", ".git/config"):
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_folder_is_found_as_a_file_is_with_a_slash_or_without(tmp_path: Path) -> None:
    models = tmp_path / "models"
    model(models / "llm")
    for name in ("llm", "llm/"):
        assert find_input(name, None, Folders(tmp_path, (models,)), _Digests()) == models / "llm"


def test_the_digest_of_a_folder_is_that_of_the_list_of_what_counts(tmp_path: Path) -> None:
    folder = model(tmp_path / "llm")
    digests = _Digests()

    found = identify(folder, None, None, digests, read=True)

    assert sorted(digests.read) == ["config", "model"]
    text = f"{'cc' * 32}  config.json\n{'cc' * 32}  model.safetensors\n"
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert (found.size, found.certainty) == (len("model.safetensors" + "config.json"), Certainty.CHECKED)
    assert (found.folder, found.parts) == (folder, ("config.json", "model.safetensors"))


def test_a_folder_is_known_when_each_of_its_files_is(tmp_path: Path) -> None:
    folder = model(tmp_path / "llm")

    some = identify(folder, None, None, _Digests(model="aa" * 32), read=False)
    all_of_it = identify(folder, None, None, _Digests(model="aa" * 32, config="bb" * 32), read=False)

    assert (some.sha256, some.certainty) == (None, Certainty.UNKNOWN)
    assert all_of_it.sha256 is not None
    assert identify(folder, all_of_it.sha256, None, _Digests(), read=False).certainty is Certainty.PINNED


def test_the_variant_decides_what_counts(tmp_path: Path) -> None:
    folder = model(tmp_path / "llm")
    (folder / "model.fp16.safetensors").write_bytes(b"half")

    plain = identify(folder, None, None, _Digests(), read=True)
    half = identify(folder, None, None, _Digests(), read=True, variant="fp16")

    assert plain.parts == ("config.json", "model.safetensors")
    assert half.parts == ("config.json", "model.fp16.safetensors")
    assert plain.sha256 != half.sha256


def test_a_folder_of_another_digest_is_not_the_pinned_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'llm' has sha256 [0-9a-f]{12}\.\.\., the recipe pins b{12}"):
        identify(model(tmp_path / "llm"), "bb" * 32, None, _Digests(), read=True)


def test_a_wrong_pin_is_an_error_as_soon_as_the_digest_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.touch()

    with pytest.raises(InputError) as caught:
        identify(path, "bb" * 32, None, _Digests(), read=True)

    assert caught.value.code == "sha256-mismatch"
    assert "has sha256 cccccccccccc..., the recipe pins bbbbbbbbbbbb..." in str(caught.value)


def test_a_path_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    name = "/".join(["d" * 200] * 30) + "/x.safetensors"
    with pytest.raises(RecipeError) as caught:
        find_input(name, None, Folders(tmp_path), _Digests())
    assert (caught.value.code, caught.value.hint) == ("name-too-long", "3800 bytes at most")
