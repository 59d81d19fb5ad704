"""Parts: what is finished of a folder waits for the build that goes on with it, and for no other."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lorapipe.errors import BuildError, Halted, Interrupted
from lorapipe.store.folders import StagedFolder
from lorapipe.store.store import Store, open_store
from lorapipe.store.temporaries import KEPT_S, claim_part, part_of, sweep, sweep_parts

STOPS = (KeyboardInterrupt, Interrupted, Halted, BuildError)
FAULTS = (ValueError, SystemExit, BuildError)
KEY, OTHER = "a" * 64, "b" * 64
FILES = {"config.json": b"{}", "unet/1.safetensors": b"one", "unet/2.safetensors": b"two"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write(staged: StagedFolder, name: str, data: bytes) -> None:
    staged.create(name).write(data)
    staged.finish(sha256(data))


def interrupted(store: Store, path: Path, *names: str, key: str = KEY) -> Path:
    """Interrupt the staging of a folder when some of its files are finished; the part that is left."""
    with pytest.raises(KeyboardInterrupt), store.stage_folder(path, key=key) as staged:  # noqa: PT012  # the writes belong to it
        for name in names:
            write(staged, name, FILES[name])
        staged.create("unfinished").write(b"x" * 1000)
        raise KeyboardInterrupt
    return part_of(path, key)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_finished_files_outlive_an_interruption_and_are_found_by_the_key(
    store: Store, tmp_path: Path
) -> None:
    part = interrupted(store, tmp_path / "m", "unet/1.safetensors")
    assert names(part) == ["unet/1.safetensors"]
    assert store.finished(tmp_path / "m", KEY) == {"unet/1.safetensors": 3}
    assert store.finished(tmp_path / "m", OTHER) == {}
    with store.stage_folder(tmp_path / "m", key=KEY) as staged:
        assert {name: known.sha256 for name, known in staged.finished.items()} == {
            "unet/1.safetensors": sha256(b"one")
        }
        for name in ("config.json", "unet/2.safetensors"):
            write(staged, name, FILES[name])
        store.publish_folder(staged, {name: sha256(data) for name, data in FILES.items()}, KEY)
    assert {name: (tmp_path / "m" / name).read_bytes() for name in names(tmp_path / "m")} == FILES
    assert not part.exists()
    assert store.finished(tmp_path / "m", KEY) == {}


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt,
        Interrupted("interrupted", "stop"),
        Halted,
        BuildError("disk-full", "no"),
        BuildError("output-unwritable", "no"),
    ],
)
def test_an_interruption_and_a_fault_of_the_disk_keep_them(
    store: Store, tmp_path: Path, error: BaseException | type[BaseException]
) -> None:
    with pytest.raises(STOPS), store.stage_folder(tmp_path / "m", key=KEY) as staged:  # noqa: PT012  # as above
        write(staged, "a", b"a")
        raise error
    assert names(part_of(tmp_path / "m", KEY)) == ["a"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, BuildError("overflow", "no")])
def test_an_error_removes_them_and_their_records(
    store: Store, tmp_path: Path, error: BaseException | type[BaseException]
) -> None:
    with pytest.raises(FAULTS), store.stage_folder(tmp_path / "m", key=KEY) as staged:  # noqa: PT012  # as above
        write(staged, "a", b"a")
        raise error
    assert list(tmp_path.glob(".lorapipe-*")) == []
    assert store.journal.last(part_of(tmp_path / "m", KEY) / "a") == ()


def test_an_interruption_before_the_first_file_is_finished_leaves_no_folder(
    store: Store, tmp_path: Path
) -> None:
    interrupted(store, tmp_path / "new" / "m")
    assert not (tmp_path / "new").exists()


def test_without_a_key_nothing_is_kept(store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), store.stage_folder(tmp_path / "m") as staged:  # noqa: PT012  # as above
        write(staged, "a", b"a")
        raise KeyboardInterrupt
    assert list(tmp_path.glob(".lorapipe-*")) == []


def test_a_finished_file_may_be_written_anew(store: Store, tmp_path: Path) -> None:
    interrupted(store, tmp_path / "m", "unet/1.safetensors")
    with store.stage_folder(tmp_path / "m", key=KEY) as staged:
        write(staged, "unet/1.safetensors", b"other")
        staged.publish()
    assert (tmp_path / "m" / "unet" / "1.safetensors").read_bytes() == b"other"


def spoil_bytes(file: Path) -> None:
    state = file.stat()
    file.write_bytes(b"0ne")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def spoil_kind(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("spoil", [spoil_bytes, spoil_kind, Path.unlink])
def test_what_is_no_more_what_was_recorded_is_removed(
    store: Store, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    part = interrupted(store, tmp_path / "m", "unet/1.safetensors", "unet/2.safetensors")
    spoil(part / "unet" / "1.safetensors")
    with store.stage_folder(tmp_path / "m", key=KEY) as staged:
        assert list(staged.finished) == ["unet/2.safetensors"]
        assert names(staged.temp) == ["unet/2.safetensors"]


def test_a_strangers_files_are_not_even_read(store: Store, tmp_path: Path) -> None:
    part = interrupted(store, tmp_path / "m", "unet/1.safetensors")
    (part / "stranger").write_bytes(b"x")
    (part / "empty").mkdir()
    read: list[Path] = []
    with store.stage_folder(tmp_path / "m", key=KEY, progress=lambda path, *_: read.append(path)) as staged:
        assert sorted(path.name for path in staged.temp.iterdir()) == ["unet"]
    assert part / "stranger" not in read


def test_all_but_the_youngest_need_not_be_read_again(root: Path, tmp_path: Path) -> None:
    with open_store(root) as store, pytest.raises(KeyboardInterrupt):  # noqa: PT012, SIM117  # as above
        with store.stage_folder(tmp_path / "m", key=KEY) as staged:
            for name in ("1", "2", "3"):
                write(staged, name, name.encode())
                time.sleep(0.07)
            raise KeyboardInterrupt
    read: list[str] = []

    def tell(path: Path, done: int, total: int) -> None:
        read.append(path.name)

    with open_store(root) as store, store.stage_folder(tmp_path / "m", key=KEY, progress=tell) as staged:
        assert len(staged.finished) == 3
    assert read in ([], ["3"])


# --- whose they are ---------------------------------------------------------------------


def test_of_two_at_once_the_second_works_apart_and_takes_nothing(store: Store, tmp_path: Path) -> None:
    with store.stage_folder(tmp_path / "m", key=KEY) as first:
        write(first, "a", b"a")
        with store.stage_folder(tmp_path / "m", key=KEY) as second:
            assert second.temp != first.temp
            assert second.finished == {}
            write(second, "a", b"a")
            second.publish()
        assert names(first.temp) == ["a"]
        first.publish()
    assert names(tmp_path / "m") == ["a"]
    assert list(tmp_path.glob(".lorapipe-*")) == []


def test_a_part_that_is_held_is_swept_by_nobody(tmp_path: Path) -> None:
    claimed = claim_part(tmp_path / "m", KEY)
    assert claimed is not None
    part, fd = claimed
    os.utime(part, (0, 0))
    sweep(tmp_path)
    sweep_parts(tmp_path / "m", OTHER)
    assert part.exists()
    os.close(fd)  # as a death does
    sweep_parts(tmp_path / "m", OTHER)
    assert not part.exists()


def test_parts_of_other_targets_and_the_own_one_stay(store: Store, tmp_path: Path) -> None:
    mine = interrupted(store, tmp_path / "m", "config.json")
    others = interrupted(store, tmp_path / "n", "config.json", key=OTHER)
    sweep_parts(tmp_path / "m", KEY)
    assert mine.exists()
    sweep_parts(tmp_path / "m")
    assert not mine.exists()
    assert others.exists()


def test_a_part_waits_a_week(store: Store, tmp_path: Path) -> None:
    part = interrupted(store, tmp_path / "m", "config.json")
    assert sweep(tmp_path) == ()
    old = time.time() - KEPT_S - 60
    os.utime(part, (old, old))
    assert sweep(tmp_path) == (part,)
    assert not part.exists()


@pytest.mark.parametrize("there", ["file", "link"])
def test_what_only_has_the_name_of_a_part_is_not_used(store: Store, tmp_path: Path, there: str) -> None:
    part, elsewhere = part_of(tmp_path / "m", KEY), tmp_path / "elsewhere"
    elsewhere.mkdir()
    if there == "file":
        part.write_bytes(b"x")
    else:
        part.symlink_to(elsewhere)
    with store.stage_folder(tmp_path / "m", key=KEY) as staged:
        write(staged, "a", b"a")
        staged.publish()
    assert names(tmp_path / "m") == ["a"]
    assert names(elsewhere) == []


def test_a_part_that_was_published_meanwhile_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for the lock of a folder may get that of a folder with another name by now."""
    real = fcntl.flock
    part = part_of(tmp_path / "m", KEY)
    moved: list[Path] = []

    def publish(fd: int, how: int) -> None:
        if not moved:
            moved.append(part.rename(tmp_path / "m"))
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", publish)
    claimed = claim_part(tmp_path / "m", KEY)
    assert claimed is not None
    assert claimed[0] == part
    assert os.path.samestat(os.fstat(claimed[1]), part.stat())
    os.close(claimed[1])


def test_where_there_are_no_locks_there_are_no_parts(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(fd: int, how: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    assert claim_part(tmp_path / "m", KEY) is None
