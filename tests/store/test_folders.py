"""Folders that are absent, old or new, never partial."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from lorapipe.errors import BuildError
from lorapipe.store.digest import FileState
from lorapipe.store.folders import StagedFolder, stage_folder
from lorapipe.store.temporaries import sweep

OLD = {"a": b"old", "sub/b": b"old too"}
NEW = {"a": b"new", "deep/er/c": b"new too"}
POINTS = ["created", "write", "seal", "sealed", "publish", "aside", "renamed", "published"]


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder by relative name."""
    found = (path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def fill(staged: StagedFolder, files: dict[str, bytes] = NEW) -> None:
    for name, data in files.items():
        staged.create(name).write(data)


def put(path: Path, files: dict[str, bytes] = OLD) -> None:
    with stage_folder(path) as staged:
        fill(staged, files)
        staged.publish()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failing_at(point: str, error: BaseException) -> Callable[[str], None]:
    def hook(at: str) -> None:
        if at == f"output:{point}":
            raise error

    return hook


def test_the_folder_appears_whole_when_it_is_published(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with stage_folder(path) as staged:
        fill(staged)
        assert not path.exists()
        states = staged.publish()
    assert contents(path) == NEW
    assert states == {name: FileState.of(path / name) for name in NEW}
    assert names(tmp_path) == ["m"]


def test_an_old_folder_stays_until_the_new_one_is_whole_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    path = tmp_path / "m"
    put(path)
    with stage_folder(path) as staged:
        fill(staged)
        staged.seal()
        assert contents(path) == OLD
        staged.publish()
    assert contents(path) == NEW
    assert not (path / "sub").exists()
    assert names(tmp_path) == ["m"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_folder_and_no_trace(tmp_path: Path, error: type[BaseException]) -> None:
    put(tmp_path / "m")
    with pytest.raises(error), stage_folder(tmp_path / "m") as staged:  # noqa: PT012  # the writes belong to it
        fill(staged)
        raise error
    assert contents(tmp_path / "m") == OLD
    assert names(tmp_path) == ["m"]


@pytest.mark.parametrize("old", [True, False], ids=["replacing", "first"])
@pytest.mark.parametrize("point", POINTS)
def test_an_error_at_any_point_leaves_old_or_new_and_no_trace(tmp_path: Path, point: str, old: bool) -> None:
    path = tmp_path / "out" / "m"
    if old:
        put(path)
    hook = failing_at(point, RuntimeError("here"))
    if point == "aside" and not old:
        return  # it does not come there
    with pytest.raises(RuntimeError, match="here"), stage_folder(path, hook=hook) as staged:  # noqa: PT012  # as above
        fill(staged)
        staged.publish()
    if point in ("renamed", "published"):
        assert contents(path) == NEW
    elif old:
        assert contents(path) == OLD
    else:
        assert names(tmp_path) == []
        return
    assert names(tmp_path / "out") == ["m"]


def test_the_hook_passes_each_point_in_order(tmp_path: Path) -> None:
    put(tmp_path / "m")
    seen: list[str] = []
    with stage_folder(tmp_path / "m", hook=seen.append, label="it") as staged:
        fill(staged)
        staged.publish()
    small = ["write", "write"]  # what fits the buffer is written when its file is finished
    assert seen == [f"it:{p}" for p in ["created", small[0], "seal", small[1], *POINTS[3:]]]


def test_files_and_folders_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test can cut the power; it can see in which order the disk was asked."""
    seen: list[str] = []
    real = os.fsync

    def spy(fd: int) -> None:
        seen.append("sync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
        real(fd)

    with stage_folder(tmp_path / "m", hook=seen.append) as staged:
        monkeypatch.setattr(os, "fsync", spy)
        fill(staged)
        staged.publish()
    order = [point for point in seen if point.startswith("sync") or point.endswith(("sealed", ":renamed"))]
    assert order == [
        *["sync file", "sync file"],
        *["sync folder"] * 3,  # deep/er, deep, and the folder itself
        *["output:sealed", "output:renamed", "sync folder"],
    ]


def test_sealed_twice_is_sealed_once(tmp_path: Path) -> None:
    with stage_folder(tmp_path / "m") as staged:
        fill(staged)
        assert staged.seal() == staged.seal()


def test_a_file_of_the_folder_is_not_written_twice(tmp_path: Path) -> None:
    with stage_folder(tmp_path / "m") as staged:
        staged.create("a")
        with pytest.raises(BuildError, match="File exists"):
            staged.create("a")
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_with_what_was_written(tmp_path: Path, code: int) -> None:
    put(tmp_path / "m")
    count = 0

    def hook(at: str) -> None:
        nonlocal count
        count += at == "output:write"
        if count == 2:
            raise OSError(code, "full")

    with pytest.raises(BuildError) as caught, stage_folder(tmp_path / "m", hook=hook) as staged:  # noqa: PT012  # as above
        fill(staged, {"a": bytes(1000), "b": b"x"})
        staged.publish()
    assert caught.value.code == "disk-full"
    assert "1,000 bytes were written" in str(caught.value)
    assert contents(tmp_path / "m") == OLD
    assert names(tmp_path) == ["m"]


def test_a_disk_too_small_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        stage_folder(tmp_path / "new" / "m", needed=10**18)
    assert caught.value.code == "disk-full"
    assert names(tmp_path) == []


@pytest.mark.parametrize("there", ["file", "link", "link to a folder", "empty folder"])
def test_whatever_has_the_name_is_replaced_and_no_link_is_followed(tmp_path: Path, there: str) -> None:
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "m"
    put(elsewhere)
    if there == "file":
        path.write_bytes(b"x")
    elif there == "link":
        path.symlink_to(elsewhere / "a")
    elif there == "link to a folder":
        path.symlink_to(elsewhere)
    else:
        path.mkdir()
    put(path, NEW)
    assert contents(path) == NEW
    assert not path.is_symlink()
    assert contents(elsewhere) == OLD
    assert names(tmp_path) == ["elsewhere", "m"]


def test_a_folder_that_another_build_publishes_meanwhile_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m"
    put(path)
    came: list[str] = []

    def hook(at: str) -> None:
        if at == "output:aside" and not came:
            came.append(at)
            put(path, {"theirs": b"x"})

    with stage_folder(path, hook=hook) as staged:
        fill(staged)
        staged.publish()
    assert contents(path) == NEW
    assert names(tmp_path) == ["m"]


def test_a_rename_that_fails_gives_the_old_folder_its_name_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m"
    put(path)
    real = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp" and target == path:
            raise PermissionError(errno.EPERM, "not now")
        return real(self, target)

    with pytest.raises(BuildError, match="cannot be written: not now"), stage_folder(path) as staged:  # noqa: PT012  # as above
        fill(staged)
        monkeypatch.setattr(Path, "rename", failing)
        staged.publish()
    assert contents(path) == OLD
    assert names(tmp_path) == ["m"]


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        put(tmp_path / "m", {"sub/a": b""})
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / "m" / name).stat().st_mode) for name in (".", "sub", "sub/a")]
    assert modes == [0o750, 0o750, 0o640]


def test_a_staged_folder_holds_its_kernel_lock(tmp_path: Path) -> None:
    with stage_folder(tmp_path / "m") as staged:
        fd = os.open(staged.temp, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(fd)
        assert sweep(tmp_path) == ()


def lowest_free() -> int:
    """The descriptor that the next file will have."""
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    return fd


def test_descriptors_are_let_go(tmp_path: Path) -> None:
    before = lowest_free()
    put(tmp_path / "m")
    put(tmp_path / "m", NEW)
    with pytest.raises(ValueError, match="x"), stage_folder(tmp_path / "m") as staged:  # noqa: PT012  # as above
        staged.create("a")
        raise ValueError("x")
    assert lowest_free() == before


def test_discarding_twice_or_after_publishing_is_harmless(tmp_path: Path) -> None:
    staged = stage_folder(tmp_path / "m")
    fill(staged)
    staged.publish()
    staged.discard()
    staged.discard()
    assert contents(tmp_path / "m") == NEW
