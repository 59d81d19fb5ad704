"""Only what lies in a folder is read as part of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lorapipe.errors import InputError
from lorapipe.formats.folders.members import inside, visible


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("x")
    path = tmp_path / "m"
    (path / "sub").mkdir(parents=True)
    (path / "a").write_text("x")
    (path / "sub" / "b").write_text("x")
    return path


def test_a_file_and_a_link_within_the_folder_are_fine(folder: Path) -> None:
    (folder / "to-b").symlink_to("sub/b")
    (folder / "sub" / "to-a").symlink_to("../a")
    for name in ("a", "sub/b", "to-b", "sub/to-a"):
        assert inside(folder, name) == folder / name


def test_a_folder_that_is_named_through_a_link_is_the_folder_itself(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert inside(link, "a") == link / "a"


@pytest.mark.parametrize("target", ["../secret", "nowhere", "sub", "/etc/hostname"])
def test_a_link_out_of_the_folder_to_a_folder_or_to_nothing_is_refused(folder: Path, target: str) -> None:
    (folder / "link").symlink_to(target)
    with pytest.raises(InputError) as caught:
        inside(folder, "link")
    assert str(caught.value) == (
        f"{folder}: error: has 'link', which is no file in it: a link out of it, or to nothing"
        " - put the file itself there"
    )
    assert caught.value.code == "folder-link"


def test_a_chain_of_links_is_followed_to_its_end(folder: Path) -> None:
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("../secret")
    with pytest.raises(InputError):
        inside(folder, "one")


def test_a_pipe_is_no_file(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError):
        inside(folder, "pipe")


def test_a_download_of_the_hub_is_links_to_its_blobs_and_to_nothing_else(tmp_path: Path) -> None:
    repo = tmp_path / "models--x--y"
    (repo / "blobs").mkdir(parents=True)
    (repo / "blobs" / "1234").write_text("x")
    (repo / "other").write_text("x")
    snapshot = repo / "snapshots" / "abcdef"
    (snapshot / "unet").mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/1234")
    (snapshot / "unet" / "config.json").symlink_to("../../../blobs/1234")
    (snapshot / "bad.json").symlink_to("../../other")

    assert inside(snapshot, "config.json") == snapshot / "config.json"
    assert inside(snapshot, "unet/config.json") == snapshot / "unet" / "config.json"
    assert inside(snapshot / "unet", "config.json") == snapshot / "unet" / "config.json"
    (snapshot / "unet" / "bad.json").symlink_to("../../../other")
    with pytest.raises(InputError):
        inside(snapshot / "unet", "bad.json")
    with pytest.raises(InputError):
        inside(snapshot, "bad.json")


def test_hidden_things_are_not_listed_and_the_others_are_in_order(folder: Path) -> None:
    for name in (".git", ".cache", "B", "é"):
        (folder / name).touch()
    assert [entry.name for entry in visible(folder)] == ["B", "a", "sub", "é"]
