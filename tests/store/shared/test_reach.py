"""Whether two machines mean one store: tokens that are seen, or not."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from lorapipe.errors import BuildError, UsageError
from lorapipe.store.shared.bucket import Trouble
from lorapipe.store.shared.folder import FolderBucket
from lorapipe.store.shared.reach import Token, leave_token, see_token, take_token

READ_ONLY = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


@pytest.fixture(params=["folder", "url"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "store")
    (tmp_path / "server").mkdir()
    return f"file://{tmp_path}/server"


def test_who_means_the_same_store_sees_the_token(store: str) -> None:
    token = leave_token(store)

    assert token.store == store
    assert see_token(pickle.loads(pickle.dumps(token))) is None


def test_who_looks_leaves_nothing_and_the_token_can_be_taken_away(store: str) -> None:
    token = leave_token(store)
    folder = Path(store.removeprefix("file://")) / "tokens"
    before = sorted(folder.iterdir())
    see_token(token)

    assert sorted(folder.iterdir()) == before
    take_token(token)
    take_token(token)
    assert list(folder.iterdir()) == []


def test_a_folder_of_the_same_name_on_another_disk_is_another_store(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    token = leave_token(tmp_path / "here")

    assert see_token(replace(token, store=str(tmp_path / "there"))) == (
        f"{tmp_path}/there is not the same store here: it is another folder, or bucket, of that name"
    )


def test_a_token_of_another_text_is_not_the_one_that_was_left(store: str) -> None:
    token = leave_token(store)
    assert "is not the same store here" in str(see_token(replace(token, text="0" * 32)))


def test_a_folder_that_is_not_mounted_cannot_be_reached(tmp_path: Path) -> None:
    token = Token(str(tmp_path / "gone"), f"tokens/{'0' * 32}", "0" * 32)
    assert see_token(token) == f"{tmp_path}/gone cannot be reached from here: there is no such folder"
    assert not (tmp_path / "gone").exists()


@READ_ONLY
def test_a_store_that_cannot_be_written_from_here_says_so(tmp_path: Path) -> None:
    token = leave_token(tmp_path)
    (tmp_path / "tokens").chmod(0o500)

    assert see_token(token) == f"{tmp_path} cannot be written from here: permission denied"
    (tmp_path / "tokens").chmod(0o700)


def test_a_store_that_takes_nothing_from_here_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = leave_token(tmp_path)

    def refuse(*args: object, **more: object) -> bool:
        raise Trouble("the server refuses access (403)", refused=True)

    monkeypatch.setattr(FolderBucket, "write", refuse)
    assert see_token(token) == f"{tmp_path} cannot be written from here: the server refuses access (403)"


def test_a_store_in_which_nothing_can_be_left_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        leave_token(f"file://{tmp_path}/gone")

    assert caught.value.code == "store-unwritable"
    assert str(caught.value) == (
        f"error: the store file://{tmp_path}/gone cannot be written: there is no such folder"
        " - name another store, or see that you may write this one"
    )


def test_what_is_no_place_for_a_store_is_refused() -> None:
    with pytest.raises(UsageError, match="names no shared store"):
        leave_token("ftp://host/x")
