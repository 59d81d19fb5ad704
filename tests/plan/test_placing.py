from __future__ import annotations

from pathlib import Path

import pytest

from lorapipe.errors import RecipeError
from lorapipe.plan.files import Folders
from lorapipe.plan.placing import place_output
from lorapipe.remote.url import parse_url


def refused(name: str, folders: Folders) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        place_output(name, folders)
    assert caught.value.option == "to"
    assert caught.value.hint
    return caught.value


def under(url: str) -> Folders:
    return Folders(Path("/recipes"), output_root=parse_url(url))


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


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (f"{'x' * 250}.safetensors", "255 bytes at most"),
        (f"{'é' * 130}/a.pt", "255 bytes at most"),
        ("/".join(["d" * 200] * 30) + "/x.safetensors", "3800 bytes at most"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str, hint: str) -> None:
    error = refused(name, Folders(tmp_path))
    assert (error.code, error.hint) == ("name-too-long", hint)


# --- under a URL ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("out/x.safetensors", "s3://bucket/a/b/out/x.safetensors"),
        ("./a/../x.safetensors", "s3://bucket/a/b/x.safetensors"),
        ("out//x.safetensors", "s3://bucket/a/b/out/x.safetensors"),
        ("model/", "s3://bucket/a/b/model/"),
        ("..x/y.safetensors", "s3://bucket/a/b/..x/y.safetensors"),
        ("é %20+&.safetensors", "s3://bucket/a/b/é %20+&.safetensors"),
        ("s3://bucket/a/b/x.safetensors", "s3://bucket/a/b/x.safetensors"),
        ("S3://bucket/a/b/model/", "s3://bucket/a/b/model/"),
    ],
)
@pytest.mark.parametrize("root", ["s3://bucket/a/b", "s3://bucket/a/b/"])
def test_an_output_root_elsewhere_is_what_names_start_at(root: str, name: str, url: str) -> None:
    placed = place_output(name, under(root))
    assert str(placed) == url
    assert parse_url(str(placed)) == placed  # the lock has it as text


def test_a_whole_bucket_may_be_the_root() -> None:
    assert str(place_output("x.safetensors", under("gs://bucket"))) == "gs://bucket/x.safetensors"


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "a/../../x.safetensors",
        "/etc/x.safetensors",
        ".",
        "./",
        "..",
        "s3://bucket/a/b",
        "s3://bucket/a/b/",
        "s3://bucket/a/bc/x.safetensors",
        "s3://bucket/x.safetensors",
        "s3://another/a/b/x.safetensors",
        "gs://bucket/a/b/x.safetensors",
    ],
)
def test_an_output_outside_the_url_of_the_root_is_refused(name: str) -> None:
    assert refused(name, under("s3://bucket/a/b")).code == "output-escapes"


@pytest.mark.parametrize("name", ["s3://bucket/a/b/../x.safetensors", "a#b.safetensors", "a?b.safetensors"])
def test_a_name_that_no_url_can_have_is_refused(name: str) -> None:
    assert refused(name, under("s3://bucket/a/b")).code == "bad-url"


def test_a_name_elsewhere_means_the_same_everywhere_too() -> None:
    for name in ("con.safetensors", "a\\b.safetensors", "dir./x.safetensors"):
        assert refused(name, under("s3://bucket/a")).code == "output-not-portable"


def test_a_key_that_no_object_can_have_is_refused() -> None:
    error = refused("é" * 600 + ".safetensors", under("s3://bucket/a"))
    assert (error.code, error.hint) == ("name-too-long", "1024 bytes at most")


def test_a_url_needs_an_output_root_that_allows_it(tmp_path: Path) -> None:
    error = refused("s3://bucket/x.safetensors", Folders(tmp_path))
    assert error.code == "output-escapes"
    assert "--output-root" in str(error.hint)


@pytest.mark.parametrize("root", ["hf://org/repo", "https://host/x"])
def test_what_can_only_be_read_is_no_place_for_outputs(root: str) -> None:
    assert refused("x.safetensors", under(root)).code == "remote-read-only"
