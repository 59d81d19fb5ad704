"""Files that are absent, old or new, never partial."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from lorapipe.errors import BuildError
from lorapipe.store.atomic import Staged, atomic_write, stage
from lorapipe.store.digest import FileState

POINTS = ["created", "write", "seal", "sealed", "publish", "renamed", "published"]
BIG = 1 << 20  # above the buffer: each such write goes to the kernel at once


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failing_at(point: str, error: BaseException, nth: int = 1) -> Callable[[str], None]:
    """A hook that raises the ``nth`` time it comes to ``point``."""
    seen = []

    def hook(at: str) -> None:
        if at == point:
            seen.append(at)
            if len(seen) == nth:
                raise error

    return hook


def test_the_file_appears_whole_when_the_context_ends(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["f"]


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_no_trace(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:  # noqa: PT012  # the write belongs to it
        file.write(bytes(BIG))
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_the_temporary_file_is_hidden_and_in_the_same_folder(tmp_path: Path) -> None:
    with stage(tmp_path / "f") as staged:
        assert staged.temp.parent == tmp_path
        assert staged.temp.name.startswith(f".lorapipe-{os.getpid()}-")
    assert names(tmp_path) == []


def test_two_writers_of_one_path_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    with stage(tmp_path / "f") as one, stage(tmp_path / "f") as two:
        one.file.write(b"one")
        two.file.write(b"two")
        two.publish()
        one.publish()
    assert (tmp_path / "f").read_bytes() == b"one"
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_follows_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "f") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode


def test_a_link_at_the_target_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"keep")
    (tmp_path / "f").symlink_to(tmp_path / "elsewhere")
    with atomic_write(tmp_path / "f") as file:
        file.write(b"new")
    assert (tmp_path / "elsewhere").read_bytes() == b"keep"
    assert not (tmp_path / "f").is_symlink()
    assert (tmp_path / "f").read_bytes() == b"new"


def test_folders_are_made_and_removed_again_when_nothing_comes_of_it(tmp_path: Path) -> None:
    with stage(tmp_path / "a" / "b" / "f"):
        assert (tmp_path / "a" / "b").is_dir()
    assert names(tmp_path) == []
    with atomic_write(tmp_path / "a" / "b" / "f") as file:
        file.write(b"x")
    assert (tmp_path / "a" / "b" / "f").read_bytes() == b"x"


def test_a_folder_that_others_use_meanwhile_stays(tmp_path: Path) -> None:
    with stage(tmp_path / "a" / "f"):
        (tmp_path / "a" / "theirs").write_bytes(b"")
    assert names(tmp_path / "a") == ["theirs"]


def test_between_seal_and_publish_all_bytes_are_under_the_hidden_name(tmp_path: Path) -> None:
    with stage(tmp_path / "f") as staged:
        staged.file.write(b"abc")
        state = staged.seal()
        assert staged.temp.read_bytes() == b"abc"
        assert state.size == 3
        assert staged.seal() == state
        assert not (tmp_path / "f").exists()
        published = staged.publish()
    assert published == FileState.of(tmp_path / "f")


def test_a_foreign_write_meanwhile_is_not_taken_for_ours(tmp_path: Path) -> None:
    with stage(tmp_path / "f") as staged:
        staged.file.write(b"abc")
        staged.seal()
        with staged.temp.open("ab") as other:
            other.write(b"more")
        assert staged.publish() is None


def test_it_can_be_published_where_its_content_says(tmp_path: Path) -> None:
    with stage(tmp_path / "temp" / "blob") as staged:
        staged.file.write(b"abc")
        staged.publish(to=tmp_path / "blobs" / "aa" / "name")
    assert (tmp_path / "blobs" / "aa" / "name").read_bytes() == b"abc"
    assert not (tmp_path / "temp" / "blob").exists()


def test_the_hook_passes_each_point_in_order(tmp_path: Path) -> None:
    seen: list[str] = []
    with atomic_write(tmp_path / "f", hook=seen.append, label="lock") as file:
        file.write(bytes(BIG))
        file.write(bytes(BIG))
    assert seen == [
        f"lock:{point}"
        for point in ["created", "write", "write", "seal", "sealed", "publish", "renamed", "published"]
    ]


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test can cut the power; it can see in which order the disk was asked."""
    seen: list[str] = []
    real = os.fsync

    def spy(fd: int) -> None:
        seen.append("sync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
        real(fd)

    monkeypatch.setattr(os, "fsync", spy)
    with atomic_write(tmp_path / "new" / "f", hook=seen.append) as file:
        file.write(b"x")
    order = [point for point in seen if point.startswith("sync") or point.endswith((":write", ":renamed"))]
    assert order == ["sync folder", "output:write", "sync file", "output:renamed", "sync folder"]
    assert seen[-1] == "output:published"


@pytest.mark.parametrize("point", POINTS)
def test_an_error_at_any_point_leaves_old_or_new_and_no_trace(tmp_path: Path, point: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    hook = failing_at(f"output:{point}", RuntimeError("here"))
    with pytest.raises(RuntimeError, match="here"), atomic_write(path, hook=hook) as file:
        file.write(b"new")
    assert path.read_bytes() == (b"new" if point in ("renamed", "published") else b"old")
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_disk_that_is_full_at_the_nth_write_is_named(tmp_path: Path, nth: int, code: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    hook = failing_at("output:write", OSError(code, "full"), nth)
    with pytest.raises(BuildError) as caught, atomic_write(path, hook=hook) as file:  # noqa: PT012  # all writes
        for _ in range(3):
            file.write(bytes(BIG))
    assert str(caught.value) == (
        f"error: no space left for {path}: {(nth - 1) * BIG:,} bytes were written"
        " - free some space and run again"
    )
    assert caught.value.code == "disk-full"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_a_full_disk_found_while_sealing_is_named_too(tmp_path: Path) -> None:
    hook = failing_at("output:write", OSError(errno.ENOSPC, "full"))
    with pytest.raises(BuildError) as caught, atomic_write(tmp_path / "f", needed=3, hook=hook) as file:
        file.write(b"abc")  # stays in the buffer until the seal
    assert str(caught.value) == (
        f"error: no space left for {tmp_path}/f: 3 bytes needed - free some space and run again"
    )
    assert names(tmp_path) == []


def test_a_disk_too_small_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        stage(tmp_path / "new" / "f", needed=10**18)
    assert caught.value.code == "disk-full"
    assert str(caught.value).startswith(
        f"error: no space left for {tmp_path}/new/f: 1,000,000,000,000,000,000 bytes needed, "
    )
    assert names(tmp_path) == []


def test_another_error_of_the_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BuildError) as caught:
        stage(tmp_path / "file" / "f")
    assert caught.value.code == "output-unwritable"
    assert str(caught.value) == f"error: {tmp_path}/file/f cannot be written: Not a directory"


def test_a_folder_at_the_target_is_named(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(BuildError) as caught, atomic_write(tmp_path / "f") as file:
        file.write(b"x")
    assert str(caught.value) == f"error: {tmp_path}/f cannot be written: Is a directory"
    assert names(tmp_path) == ["f"]


def test_an_error_of_the_body_keeps_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="of an input"), stage(tmp_path / "f"):
        raise OSError(errno.EIO, "of an input")


def test_discarding_twice_or_after_publishing_is_harmless(tmp_path: Path) -> None:
    staged = stage(tmp_path / "f")
    staged.file.write(b"x")
    staged.publish()
    staged.discard()
    staged.discard()
    assert (tmp_path / "f").read_bytes() == b"x"


def test_a_staged_file_holds_its_kernel_lock(tmp_path: Path) -> None:
    with stage(tmp_path / "f") as staged, staged.temp.open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_staged_file_is_what_stage_returns(tmp_path: Path) -> None:
    with stage(tmp_path / "f") as staged:
        assert isinstance(staged, Staged)
        assert staged.path == tmp_path / "f"
