"""Inputs are found and identified; outputs stay where they belong."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lorapipe.errors import InputError, RecipeError
from lorapipe.plan.files import Certainty, Folders, find_input, identify, place_output


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
    with pytest.raises(RecipeError, match="is longer than a file's can be") as saved:
        place_output(name, Folders(tmp_path))

    assert (loaded.value.option, saved.value.option) == ("load", "to")


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


@pytest.mark.parametrize("name", ["../a.safetensors", "out/../../a.safetensors", "/tmp/a.safetensors"])
def test_an_output_outside_the_recipes_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "recipe"
    folder.mkdir()

    with pytest.raises(RecipeError) as caught:
        place_output(name, Folders(folder))

    assert caught.value.code == "output-escapes"


def test_an_output_cannot_escape_through_a_linked_folder(tmp_path: Path) -> None:
    folder, outside = tmp_path / "recipe", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "out").symlink_to(outside)

    with pytest.raises(RecipeError, match="is outside"):
        place_output("out/a.safetensors", Folders(folder))


def test_an_output_root_takes_the_place_of_the_recipes_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()

    placed = place_output("out/a.safetensors", Folders(tmp_path / "recipe", output_root=root))

    assert placed == root / "out" / "a.safetensors"


def test_a_name_with_a_slash_at_its_end_is_a_folder_to_be(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert place_output("out/model/", Folders(tmp_path)) == tmp_path / "out" / "model"
    assert place_output("there/", Folders(tmp_path)) == tmp_path / "there"
    assert place_output("there//", Folders(tmp_path)) == tmp_path / "there"


def test_a_link_of_the_folders_name_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "m").symlink_to(tmp_path / "elsewhere")
    assert place_output("m/", Folders(tmp_path / "recipe")) == tmp_path / "recipe" / "m"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("./", "output-escapes"),
        ("../", "output-escapes"),
        ("out/../", "output-escapes"),
        ("out/..", "output-escapes"),
        ("/", "output-escapes"),
        ("file/", "output-is-file"),
        ("folder", "output-is-folder"),
        ("file/m/", "output-under-file"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, name: str, code: str) -> None:
    recipe = tmp_path / "recipe"
    (recipe / "folder").mkdir(parents=True)
    (recipe / "file").touch()
    with pytest.raises(RecipeError) as caught:
        place_output(name, Folders(recipe))
    assert (caught.value.code, caught.value.option) == (code, "to")


def test_the_folder_that_holds_the_recipe_is_not_replaced(tmp_path: Path) -> None:
    recipe = tmp_path / "root" / "a" / "b"
    recipe.mkdir(parents=True)
    for name in ("a/", "a/b/"):
        with pytest.raises(RecipeError) as caught:
            place_output(name, Folders(recipe, output_root=tmp_path / "root"))
        assert caught.value.code == "output-holds-recipe"
    assert place_output("a/b/c/", Folders(recipe, output_root=tmp_path / "root")) == recipe / "c"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("C:/x.safetensors", "'C:/x.safetensors' is a path of Windows"),
        ("c:x.safetensors", "'c:x.safetensors' is a path of Windows"),
        ("..\\x.safetensors", "'..\\x.safetensors' is a path of Windows"),
        ("\\\\host\\share\\x.safetensors", "'\\\\host\\share\\x.safetensors' is a path of Windows"),
        ("\\\\?\\C:\\x.safetensors", "'\\\\?\\C:\\x.safetensors' is a path of Windows"),
        ("NUL.safetensors", "'NUL.safetensors' is no name of a file on Windows"),
        ("con/x.safetensors", "'con' is no name of a file on Windows"),
        ("lpt1.tar.safetensors", "'lpt1.tar.safetensors' is no name of a file on Windows"),
        ("dir./x.safetensors", "'dir.' is no name of a file on Windows"),
        ("dir /x.safetensors", "'dir ' is no name of a file on Windows"),
        (".../x.safetensors", "'...' is no name of a file on Windows"),
    ],
)
def test_an_output_has_a_name_that_means_the_same_everywhere(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        place_output(name, Folders(tmp_path))
    assert (caught.value.code, caught.value.message) == ("output-not-portable", message)


@pytest.mark.parametrize(
    "name", ["console.safetensors", "a..b/x.safetensors", "char:0.8.safetensors", "./a/x.pt"]
)
def test_a_name_that_is_only_like_those_is_taken(tmp_path: Path, name: str) -> None:
    assert place_output(name, Folders(tmp_path)).is_relative_to(tmp_path)


def test_a_path_that_no_file_can_have_is_refused_for_inputs_and_outputs(tmp_path: Path) -> None:
    name = "/".join(["d" * 200] * 30) + "/x.safetensors"
    for ask in (
        lambda: place_output(name, Folders(tmp_path)),
        lambda: find_input(name, None, Folders(tmp_path), _Digests()),
    ):
        with pytest.raises(RecipeError) as caught:
            ask()
        assert caught.value.code == "name-too-long"
        assert caught.value.hint == "3800 bytes at most"
