"""What a killed build leaves is cleared away, or put back where it was."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorapipe.store.atomic import stage
from lorapipe.store.temporaries import create_folder, put_back, set_aside, sweep, throw_away


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    child.wait()
    return child.pid


def leftover(folder: Path, pid: int) -> Path:
    path = folder / f".lorapipe-{pid}-0123456789abcdef.tmp"
    path.write_bytes(b"half")
    return path


def left_folder(folder: Path, use: str) -> Path:
    path = folder / f".lorapipe-{dead_pid()}-0123456789abcdef.{use}"
    (path / "m" / "sub").mkdir(parents=True)
    (path / "m" / "sub" / "a").write_bytes(b"old")
    return path


def test_sweep_removes_what_dead_processes_left(tmp_path: Path) -> None:
    left = leftover(tmp_path, dead_pid())
    assert sweep(tmp_path) == (left,)
    assert names(tmp_path) == []


def test_sweep_removes_a_folder_that_was_being_written(tmp_path: Path) -> None:
    left = left_folder(tmp_path, "tmp")
    assert sweep(tmp_path) == (left,)
    assert names(tmp_path) == []


def test_sweep_puts_back_what_had_lost_its_name_to_nothing(tmp_path: Path) -> None:
    left = left_folder(tmp_path, "old")
    assert sweep(tmp_path) == (left,)
    assert names(tmp_path) == ["m"]
    assert (tmp_path / "m" / "sub" / "a").read_bytes() == b"old"


def test_sweep_removes_the_old_folder_where_the_new_one_is_in_place(tmp_path: Path) -> None:
    left = left_folder(tmp_path, "old")
    (tmp_path / "m").mkdir()
    assert sweep(tmp_path) == (left,)
    assert names(tmp_path) == ["m"]
    assert names(tmp_path / "m") == []


def test_an_old_folder_half_removed_is_never_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is marked as waste before its first file goes."""
    left = left_folder(tmp_path, "old")
    monkeypatch.setattr("shutil.rmtree", lambda path, ignore_errors: None)
    throw_away(left)
    monkeypatch.undo()
    assert names(tmp_path) == [left.with_suffix(".tmp").name]
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_sweep_keeps_files_of_the_living_and_of_others(tmp_path: Path) -> None:
    leftover(tmp_path, os.getppid())
    leftover(tmp_path, 1)
    for name in (
        "a.safetensors",
        ".lorapipe-1-xyz.tmp",
        ".lorapipe-12.tmp",
        "lorapipe-1-0123456789abcdef.tmp",
    ):
        (tmp_path / name).write_bytes(b"")
    before = names(tmp_path)
    with stage(tmp_path / "f"):
        assert sweep(tmp_path) == ()
    assert names(tmp_path) == before


@pytest.mark.parametrize("use", ["tmp", "old"])
def test_sweep_keeps_what_another_container_is_at(tmp_path: Path, use: str) -> None:
    """Its process id means nothing here; its kernel lock does."""
    left = left_folder(tmp_path, use)
    fd = os.open(left, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert sweep(tmp_path) == ()
    finally:
        os.close(fd)
    assert sweep(tmp_path) == (left,)


def test_sweep_keeps_a_file_that_another_container_writes(tmp_path: Path) -> None:
    left = leftover(tmp_path, dead_pid())
    with left.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert sweep(tmp_path) == ()
    assert sweep(tmp_path) == (left,)


@pytest.mark.parametrize("use", ["tmp", "old"])
def test_sweep_does_not_follow_a_link(tmp_path: Path, use: str) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "a").write_bytes(b"x")
    (tmp_path / f".lorapipe-{dead_pid()}-0123456789abcdef.{use}").symlink_to(tmp_path / "keep")
    sweep(tmp_path)
    assert (tmp_path / "keep" / "a").exists()


def test_sweeping_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert sweep(tmp_path / "gone") == ()


def test_what_is_set_aside_is_hidden_beside_its_place_and_can_be_put_back(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a").write_bytes(b"x")
    found = set_aside(tmp_path / "m")
    assert found is not None
    aside, held = found
    assert names(tmp_path) == [aside.name]
    assert aside.name.startswith(f".lorapipe-{os.getpid()}-")
    put_back(aside)
    os.close(held)
    assert names(tmp_path) == ["m"]
    assert (tmp_path / "m" / "a").read_bytes() == b"x"


def test_where_nothing_is_nothing_is_set_aside(tmp_path: Path) -> None:
    assert set_aside(tmp_path / "m") is None
    assert names(tmp_path) == []


def test_a_fresh_folder_is_locked(tmp_path: Path) -> None:
    path, fd = create_folder(tmp_path)
    other = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)
        os.close(fd)
