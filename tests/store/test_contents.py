"""A folder's digest: that of its list of files, as a shell would make it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lorapipe.store.contents import folder_size, listed, listing_digest, walk, whole_digest
from lorapipe.store.digest import sha256_file


def filled(folder: Path, **files: str) -> Path:
    """A folder of text files; a double underscore in a name is a slash."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_it_is_what_sha256sum_makes_of_the_sorted_names(tmp_path: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    folder = filled(tmp_path / "m", b="1", B="2", unet__config="3", unet_x="4", a="")
    (folder / "name with  blanks").write_text("5")
    (folder / "é").write_text("6")
    command = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    told = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True)  # noqa: S607  # as a user would

    assert whole_digest(folder, sha256_file) == told.stdout.split()[0]


@pytest.mark.parametrize("name", ["back\\slash", "line\nbreak", "return\rhere"])
def test_a_name_that_could_pass_for_another_line_is_escaped_as_sha256sum_does(
    tmp_path: Path, name: str
) -> None:
    one = hashlib.sha256(b"1").hexdigest()
    line = "\\" + one + "  " + name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") + "\n"
    assert listing_digest({name: one}) == hashlib.sha256(line.encode()).hexdigest()


def test_two_files_cannot_pass_for_one_with_a_strange_name() -> None:
    one, two = "1" * 64, "2" * 64
    assert listing_digest({"a": one, "b": two}) != listing_digest({f"a\n{two}  b": one})


def test_order_is_that_of_the_names_and_not_of_the_map() -> None:
    one, two = "1" * 64, "2" * 64
    assert listing_digest({"a": one, "b": two}) == listing_digest({"b": two, "a": one})
    assert listing_digest({"a": one, "b": two}) != listing_digest({"a": two, "b": one})


def test_a_list_of_some_files_leaves_the_others_out(tmp_path: Path) -> None:
    folder = filled(tmp_path, a="1", b="2", sub__c="3")
    some = listed(("sub/c", "a"), lambda name: sha256_file(folder / name))
    (folder / "b").unlink()

    assert some == whole_digest(folder, sha256_file)


def test_one_file_that_is_not_known_leaves_the_folder_unknown(tmp_path: Path) -> None:
    folder = filled(tmp_path, a="1", b="2")

    def known(path: Path) -> str | None:
        return None if path.name == "b" else sha256_file(path)

    assert listed(("a", "b"), lambda name: known(folder / name)) is None
    assert whole_digest(folder, known) is None
    assert listed(("a",), lambda name: known(folder / name)) is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "new").write_text(""),
        lambda folder: (folder / ".hidden").write_text(""),
        lambda folder: (folder / "empty").mkdir(),
        lambda folder: (folder / "link").symlink_to("a"),
        lambda folder: (folder / "sub" / "dangling").symlink_to("nowhere"),
        lambda folder: (folder / "to-a-folder").symlink_to("sub"),
        lambda folder: os.mkfifo(folder / "pipe"),
        lambda folder: (folder / "a").unlink(),
        lambda folder: (folder / "a").write_text("2"),
        lambda folder: (folder / "a").rename(folder / "sub" / "a"),
    ],
)
def test_whatever_changes_in_a_folder_changes_its_digest(tmp_path: Path, change: object) -> None:
    folder = filled(tmp_path, a="1", sub__b="2")
    before = whole_digest(folder, sha256_file)

    change(folder)  # type: ignore[operator]

    assert whole_digest(folder, sha256_file) != before


def test_a_link_is_neither_followed_nor_read(tmp_path: Path) -> None:
    folder = filled(tmp_path / "m", a="1")
    (folder / "loop").symlink_to(folder)
    read: list[str] = []

    def of(path: Path) -> str:
        read.append(path.name)
        return sha256_file(path)

    assert whole_digest(folder, of) is not None
    assert read == ["a"]
    assert dict(walk(folder)) == {"a": True, "loop": False}


def test_the_size_is_that_of_the_files(tmp_path: Path) -> None:
    folder = filled(tmp_path, a="123", sub__b="45")
    (folder / "link").symlink_to("a")
    assert folder_size(folder) == 5


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        whole_digest(tmp_path / "none", sha256_file)
