"""Where the store lives."""

from __future__ import annotations

import stat
from pathlib import Path

import platformdirs
import pytest

from lorapipe.errors import BuildError
from lorapipe.store.paths import StorePaths, store_root
from lorapipe.store.places import VARIABLE

KEY = "ab" + "0" * 62


def test_the_variable_names_the_store(tmp_path: Path) -> None:
    assert store_root({VARIABLE: str(tmp_path / "mine")}) == tmp_path / "mine"


def test_a_relative_variable_counts_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_root({VARIABLE: "mine"}) == tmp_path / "mine"


def test_a_tilde_in_the_variable_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store_root({VARIABLE: "~/mine"}) == tmp_path / "mine"


@pytest.mark.parametrize("environment", [{}, {VARIABLE: ""}])
def test_without_the_variable_it_is_the_user_cache(environment: dict[str, str]) -> None:
    assert store_root(environment) == Path(platformdirs.user_cache_path("lorapipe"))


def test_the_process_environment_counts_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert store_root() == tmp_path


def test_naming_places_creates_nothing(root: Path) -> None:
    paths = StorePaths(root)
    assert paths.blob(KEY) == root / "blobs" / "ab" / KEY
    assert paths.manifest(KEY) == root / "manifests" / "ab" / f"{KEY}.json"
    assert paths.lock(KEY) == root / "locks" / f"{KEY}.lock"
    assert not root.parent.exists()


@pytest.mark.parametrize("key", ["", "../" + "a" * 61, "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_a_key_that_is_no_digest_never_becomes_a_path(root: Path, key: str) -> None:
    paths = StorePaths(root)
    for place in (paths.blob, paths.manifest, paths.lock):
        with pytest.raises(ValueError, match="not a sha256"):
            place(key)


def test_a_new_store_is_its_owners_alone(root: Path) -> None:
    StorePaths(root).create()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert (root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")


def test_a_shared_root_keeps_its_mode(root: Path) -> None:
    root.mkdir(parents=True)
    root.chmod(0o775)
    StorePaths(root).create()
    assert stat.S_IMODE(root.stat().st_mode) == 0o775
    assert not (root / "CACHEDIR.TAG").exists()


def test_creating_it_again_changes_nothing(root: Path) -> None:
    StorePaths(root).create()
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    StorePaths(root).create()
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before


def test_a_root_that_cannot_be_made_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BuildError) as caught:
        StorePaths(tmp_path / "file" / "store").create()
    assert caught.value.code == "store-unwritable"
    assert str(caught.value) == (
        f"error: the store {tmp_path}/file/store cannot be written: File exists"
        " - name another folder in LORAPIPE_STORE"
    )
