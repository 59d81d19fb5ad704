"""What outputs ask of the disk: room, folders, and faults with a name."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from lorapipe.errors import BuildError
from lorapipe.store.disk import Disk, ensure_space, make_folders, remove_folders, sync_folder


def test_enough_space_is_no_error(tmp_path: Path) -> None:
    ensure_space(tmp_path / "f", 1)


def test_too_little_space_is_told_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"1,000,000,000,000,000,000 bytes needed, [0-9,]+ free") as caught:
        ensure_space(tmp_path / "not" / "there" / "f", 10**18)
    assert (caught.value.code, caught.value.exit_status) == ("disk-full", 5)


@pytest.mark.parametrize(
    ("code", "needed", "says"),
    [
        (errno.ENOSPC, None, "no space left for x: 7 bytes were written"),
        (errno.EDQUOT, 12, "no space left for x: 12 bytes needed"),
        (errno.EROFS, 12, "x cannot be written: Read-only file system"),
    ],
)
def test_a_fault_of_the_disk_has_a_name(code: int, needed: int | None, says: str) -> None:
    disk = Disk(Path("x"), needed)
    disk.written = 7
    fault = OSError(code, "Read-only file system")
    with pytest.raises(BuildError) as caught, disk.faults():
        raise fault
    assert caught.value.message == says
    assert caught.value.__cause__ is fault


def test_an_error_of_another_sort_passes_as_it_is() -> None:
    with pytest.raises(KeyError), Disk(Path("x"), None).faults():
        raise KeyError


def test_only_folders_that_were_made_are_removed_and_only_while_they_are_empty(tmp_path: Path) -> None:
    made = make_folders(tmp_path / "a" / "b" / "c")
    assert made == (tmp_path / "a" / "b" / "c", tmp_path / "a" / "b", tmp_path / "a")
    (tmp_path / "a" / "theirs").write_bytes(b"")
    remove_folders(made)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["theirs"]
    assert make_folders(tmp_path / "a") == ()


def test_a_file_system_that_cannot_sync_folders_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr("os.fsync", refuse)
    sync_folder(tmp_path)
