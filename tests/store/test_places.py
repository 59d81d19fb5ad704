"""Where stores are: the table of the module, line by line, and what is refused."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from lorapipe.errors import UsageError
from lorapipe.store.paths import store_root
from lorapipe.store.places import Places, another_folder, find_places

CACHE = Path(platformdirs.user_cache_dir("lorapipe", appauthor=False))
FAST, S3 = Path("/fast/disk"), "s3://team/loras"


@pytest.mark.parametrize(
    ("store", "shared", "found"),
    [
        ("", "", Places(CACHE)),
        ("/fast/disk", "", Places(FAST)),
        (S3, "", Places(CACHE, S3)),
        ("", S3, Places(CACHE, S3)),
        ("/fast/disk", S3, Places(FAST, S3)),
        ("file:///shared/folder", "", Places(CACHE, "file:///shared/folder")),
        ("gs://team/a/b", "", Places(CACHE, "gs://team/a/b")),
        ("s3://team", "", Places(CACHE, "s3://team")),
    ],
)
def test_the_two_variables_say_which_folder_and_which_shared_store(
    store: str, shared: str, found: Places
) -> None:
    assert find_places(environment={"LORAPIPE_STORE": store, "LORAPIPE_SHARED_STORE": shared}) == found


def test_a_url_in_the_variable_leaves_the_folder_where_it_is_without_it() -> None:
    assert store_root({"LORAPIPE_STORE": S3}) == store_root({})


@pytest.mark.parametrize("spelt", ["s3://team/loras", "s3://team/loras/", "S3://team/loras//"])
def test_one_store_has_one_name(spelt: str) -> None:
    assert find_places(spelt).shared == S3


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        ("file:///a/b/", "file:///a/b"),
        ("file:////a//b", "file:///a/b"),
        ("file:///a/./b/../c", "file:///a/c"),
        ("FILE:///a/B c%20", "file:///a/B c%20"),
    ],
)
def test_a_shared_folder_is_named_by_its_path(spelt: str, name: str) -> None:
    assert find_places(spelt).shared == name


def test_what_is_given_counts_and_not_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORAPIPE_STORE", "/elsewhere")
    monkeypatch.setenv("LORAPIPE_SHARED_STORE", "s3://elsewhere/x")

    assert find_places(FAST) == Places(FAST)
    assert find_places(FAST, S3) == Places(FAST, S3)
    assert find_places(S3) == find_places(None, S3) == Places(CACHE, S3)


def test_a_relative_folder_counts_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_places("cache").root == tmp_path / "cache"


HINT = "write s3://bucket/prefix, gs://bucket/prefix, or file:///folder for a folder of several machines"


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("ftp://host/x", "LORAPIPE_STORE names no shared store: 'ftp://host/x'"),
        ("hf://org/repo", "LORAPIPE_STORE names no shared store: 'hf://org/repo'"),
        ("https://host/x", "LORAPIPE_STORE names no shared store: 'https://host/x'"),
        ("file://host/x", "LORAPIPE_STORE: a shared folder is named by its whole path, not 'file://host/x'"),
        ("file:///", "LORAPIPE_STORE: a shared folder is named by its whole path, not 'file:///'"),
        ("s3://", "LORAPIPE_STORE: the URL names no bucket"),
        ("s3://team/a/../b", "LORAPIPE_STORE: the URL has '.' or '..' among its folders"),
    ],
)
def test_what_is_no_place_for_a_shared_store_is_refused_by_name(store: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_places(environment={"LORAPIPE_STORE": store})

    assert (caught.value.code, caught.value.hint) == ("bad-shared-store", HINT)
    assert caught.value.message == message


def test_credentials_in_the_url_are_refused_and_not_shown() -> None:
    with pytest.raises(UsageError) as caught:
        find_places(environment={"LORAPIPE_STORE": "s3://key:secret@team/x"})

    assert caught.value.message == "LORAPIPE_STORE has credentials in it"
    assert "~/.aws" in str(caught.value.hint)
    assert "secret" not in str(caught.value)


def test_a_folder_in_the_variable_of_the_shared_store_is_refused() -> None:
    with pytest.raises(UsageError, match="LORAPIPE_SHARED_STORE names no shared store: '/shared'"):
        find_places(environment={"LORAPIPE_SHARED_STORE": "/shared"})


def test_two_shared_stores_are_one_too_many() -> None:
    with pytest.raises(UsageError) as caught:
        find_places(environment={"LORAPIPE_STORE": S3, "LORAPIPE_SHARED_STORE": "s3://other/x"})

    assert str(caught.value) == (
        "error: LORAPIPE_STORE and LORAPIPE_SHARED_STORE both name a shared store"
        " - name a folder in LORAPIPE_STORE, or unset one of the two"
    )


def test_the_remedy_for_a_folder_of_no_use_fits_what_the_variable_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LORAPIPE_STORE", "/fast/disk")
    assert another_folder() == "name another folder in LORAPIPE_STORE"

    monkeypatch.setenv("LORAPIPE_STORE", S3)
    assert (
        another_folder() == "name a folder in LORAPIPE_STORE, and the shared store in LORAPIPE_SHARED_STORE"
    )
