"""What is read whole is a file, and not endless."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lorapipe.errors import LockError
from lorapipe.store import lockfile
from lorapipe.store.manifest import read_manifest
from lorapipe.store.paths import StorePaths
from lorapipe.store.reading import MOST, read_whole

KEY = "ab" * 32


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, MOST + 1)


NO_FILES: list[Callable[[Path], None]] = [pipe, endless, huge, Path.mkdir]


def test_a_file_is_read_whole_and_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"all of it")
    (tmp_path / "b").symlink_to("a")
    assert read_whole(tmp_path / "a") == read_whole(tmp_path / "b", most=9) == b"all of it"
    with pytest.raises(OSError, match="more than 8 bytes"):
        read_whole(tmp_path / "a", most=8)


@pytest.mark.parametrize("made", NO_FILES)
def test_what_is_no_file_or_endless_is_refused_at_once(tmp_path: Path, made: Callable[[Path], None]) -> None:
    made(tmp_path / "x")
    with pytest.raises(OSError, match=r"."):
        read_whole(tmp_path / "x")


@pytest.mark.parametrize("made", NO_FILES)
def test_a_manifest_that_is_none_is_a_miss(tmp_path: Path, made: Callable[[Path], None]) -> None:
    paths = StorePaths(tmp_path)
    paths.manifest(KEY).parent.mkdir(parents=True)
    made(paths.manifest(KEY))
    assert read_manifest(paths, KEY) is None


@pytest.mark.parametrize("made", NO_FILES)
def test_a_lock_that_is_none_is_refused_by_name(tmp_path: Path, made: Callable[[Path], None]) -> None:
    made(tmp_path / "r.lock")
    with pytest.raises(LockError) as caught:
        lockfile.read(tmp_path / "r.lock")
    assert caught.value.code == "lock-unreadable"
    assert "None" not in caught.value.message
