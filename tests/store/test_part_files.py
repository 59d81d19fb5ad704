"""One file of a folder to be, made by a process of its own while others make the others."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from lorapipe.errors import BuildError
from lorapipe.store.atomic import no_hook
from lorapipe.store.store import Store, open_store
from lorapipe.store.temporaries import part_of, sweep, sweep_parts

KEY, OTHER = "a" * 64, "b" * 64
FILES = {
    "model_index.json": b"{}",
    **{f"transformer/model-0000{n}-of-00004.safetensors": bytes([n]) * (1000 * n) for n in range(1, 5)},
}
SHARDS = [name for name in FILES if name.endswith(".safetensors")]
POINTS = ["created", "write", "seal", "sealed", "publish", "renamed", "published", "kept"]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fail() -> NoReturn:
    """Nobody is to be waited for."""
    raise RuntimeError("it waits")


def bring(store: Store, path: Path, name: str, waiting: Callable[[], None] = fail) -> bool:
    """Make a file of the folder; whether it was not there yet."""
    with store.stage_part(path, name, KEY, waiting=waiting) as part:
        if part.finished is not None:
            assert part.finished.sha256 == sha256(FILES[name])
            return False
        part.create(name, len(FILES[name])).write(FILES[name])
        part.finish(sha256(FILES[name]))
    return True


def publish(store: Store, path: Path, **how: object) -> list[str]:
    """Make the folder of what is there and what is not; the files that were."""
    with store.stage_folder(path, key=KEY, waiting=fail, **how) as staged:  # type: ignore[arg-type]  # of the signature
        there = sorted(staged.finished)
        for name in sorted(set(FILES) - set(there)):
            staged.create(name).write(FILES[name])
            staged.finish(sha256(FILES[name]))
        store.publish_folder(staged, {name: sha256(data) for name, data in FILES.items()}, KEY)
    assert contents(path) == FILES
    assert hidden(path.parent) == []
    return there


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".lorapipe-*"))


def together(root: Path, path: Path, *jobs: tuple[str, Callable[[str], None]]) -> list[int]:
    """Make files of one folder in processes at once, each with a hook; their exit statuses."""
    pids = []
    for name, hook in jobs:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                with open_store(root, hook=hook) as store:
                    bring(store, path, name, waiting=lambda: None)
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def killed_at(point: str) -> Callable[[str], None]:
    def hook(at: str) -> None:
        if at == f"part:{point}":
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def slow(at: str) -> None:
    if at in ("part:created", "part:publish"):
        time.sleep(0.05)


# --- made apart, published as one -------------------------------------------------------


def test_files_made_by_processes_at_once_are_the_folder_that_one_makes(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "m"
    assert together(root, path, *((name, slow) for name in SHARDS)) == [0, 0, 0, 0]
    assert not path.exists()
    with open_store(root) as store:
        assert publish(store, path) == SHARDS


def test_what_nobody_made_the_publisher_makes(store: Store, tmp_path: Path) -> None:
    assert bring(store, tmp_path / "m", SHARDS[2])
    assert publish(store, tmp_path / "m") == [SHARDS[2]]


def test_what_is_there_is_not_made_again_and_not_read_but_the_youngest(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "m"
    with open_store(root) as store:
        assert all(bring(store, path, name) for name in SHARDS)
    read: list[str] = []
    with open_store(root) as store:
        assert not any(bring(store, path, name) for name in SHARDS)
        publish(store, path, progress=lambda at, *_: read.append(at.name))
    assert read == []


def test_a_file_that_was_changed_is_made_again(store: Store, tmp_path: Path) -> None:
    bring(store, tmp_path / "m", SHARDS[0])
    place = part_of(tmp_path / "m", KEY) / SHARDS[0]
    state = place.stat()
    place.write_bytes(b"\0" * state.st_size)
    os.utime(place, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert bring(store, tmp_path / "m", SHARDS[0])
    assert place.read_bytes() == FILES[SHARDS[0]]


def test_two_that_make_the_same_file_put_the_same_bytes_in_its_place(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "m"
    assert together(root, path, *[(SHARDS[0], slow)] * 3) == [0, 0, 0]
    assert contents(part_of(path, KEY)) == {SHARDS[0]: FILES[SHARDS[0]]}
    with open_store(root) as store:
        assert publish(store, path) == SHARDS[:1]


def test_a_file_of_another_key_is_none_of_this_folder(store: Store, tmp_path: Path) -> None:
    bring(store, tmp_path / "m", SHARDS[0])
    with store.stage_part(tmp_path / "m", SHARDS[0], OTHER, waiting=fail) as part:
        assert part.finished is None


# --- who dies, who fails ----------------------------------------------------------------


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_leaves_the_file_whole_or_not_at_all(
    root: Path, tmp_path: Path, point: str
) -> None:
    path = tmp_path / "m"
    statuses = together(root, path, (SHARDS[0], killed_at(point)), (SHARDS[1], no_hook))
    assert statuses == [-signal.SIGKILL, 0]
    left = contents(part_of(path, KEY))
    assert left.items() <= FILES.items()
    with open_store(root) as store:
        sweep(tmp_path)
        assert hidden(tmp_path) == [part_of(path, KEY).name]
        assert publish(store, path) == (SHARDS[:2] if point == "kept" else SHARDS[1:2])


@pytest.mark.parametrize("point", POINTS[:5])
def test_an_error_leaves_what_others_made_and_nothing_else(root: Path, tmp_path: Path, point: str) -> None:
    path = tmp_path / "new" / "m"

    def hook(at: str) -> None:
        if at == f"part:{point}":
            raise OSError(errno.ENOSPC, "full")

    with open_store(root, hook=hook) as store, pytest.raises((BuildError, OSError)):
        bring(store, path, SHARDS[0])
    assert not path.parent.exists()
    with open_store(root) as store:
        bring(store, path, SHARDS[1])
    with open_store(root, hook=hook) as store, pytest.raises((BuildError, OSError)):
        bring(store, path, SHARDS[0])
    assert contents(path.parent) == {f"{part_of(path, KEY).name}/{SHARDS[1]}": FILES[SHARDS[1]]}


def test_a_full_disk_is_named(root: Path, tmp_path: Path) -> None:
    def hook(at: str) -> None:
        if at == "part:write":
            raise OSError(errno.ENOSPC, "full")

    with open_store(root, hook=hook) as store, pytest.raises(BuildError) as caught:
        bring(store, tmp_path / "m", SHARDS[0])
    assert caught.value.code == "disk-full"
    with open_store(root) as store, pytest.raises(BuildError) as caught:  # noqa: SIM117  # as elsewhere
        with store.stage_part(tmp_path / "m", SHARDS[0], KEY, waiting=fail) as part:
            part.create(SHARDS[0], 10**18)
    assert caught.value.code == "disk-full"
    assert hidden(tmp_path) == []


# --- who waits for whom -----------------------------------------------------------------


def test_who_has_the_folder_alone_is_waited_for_and_its_work_is_found(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "m"
    waits = threading.Event()
    made: list[bool] = []

    def make() -> None:
        with open_store(root) as other:
            made.append(bring(other, path, SHARDS[0], waiting=waits.set))

    with open_store(root) as store:
        with pytest.raises(KeyboardInterrupt), store.stage_folder(path, key=KEY) as staged:  # noqa: PT012  # the writes belong to it
            thread = threading.Thread(target=make)
            thread.start()
            assert waits.wait(10)
            staged.create(SHARDS[0]).write(FILES[SHARDS[0]])
            staged.finish(sha256(FILES[SHARDS[0]]))
            raise KeyboardInterrupt
        thread.join(10)
    assert made == [False]


def test_who_waits_can_give_up_and_leaves_no_trace(store: Store, tmp_path: Path) -> None:
    with store.stage_folder(tmp_path / "m", key=KEY) as staged, pytest.raises(RuntimeError):
        bring(store, tmp_path / "m", SHARDS[0])
    assert not staged.temp.exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"]


def test_the_publisher_waits_for_those_at_work(root: Path, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "m"
    waits, done = threading.Event(), threading.Event()

    def wait() -> None:
        waits.set()

    def work() -> None:
        with open_store(root) as other, other.stage_part(path, SHARDS[0], KEY, waiting=fail) as part:
            part.create(SHARDS[0]).write(FILES[SHARDS[0]])
            done.set()
            assert waits.wait(10)
            part.finish(sha256(FILES[SHARDS[0]]))

    thread = threading.Thread(target=work)
    thread.start()
    assert done.wait(10)
    with store.stage_folder(path, key=KEY, waiting=wait) as staged:
        assert list(staged.finished) == SHARDS[:1]
    thread.join(10)


def test_a_build_of_the_whole_folder_works_apart_meanwhile(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "m"
    with store.stage_part(path, SHARDS[0], KEY, waiting=fail) as part:
        part.create(SHARDS[0]).write(FILES[SHARDS[0]])
        with store.stage_folder(path, key=KEY) as staged:
            assert staged.temp != part_of(path, KEY)
        part.finish(sha256(FILES[SHARDS[0]]))
    assert publish(store, path) == SHARDS[:1]


def test_what_is_at_work_is_swept_by_nobody(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "m"
    bring(store, path, SHARDS[1])
    with store.stage_part(path, SHARDS[0], KEY, waiting=fail) as part:
        part.create(SHARDS[0]).write(FILES[SHARDS[0]])
        os.utime(part_of(path, KEY), (0, 0))
        assert sweep(tmp_path) == ()
        sweep_parts(path, OTHER)
        part.finish(sha256(FILES[SHARDS[0]]))
    assert publish(store, path) == SHARDS[:2]


def test_a_folder_that_another_made_and_took_away_meanwhile_is_made_again(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "m"
    waits = threading.Event()
    made: list[bool] = []

    def make() -> None:
        with open_store(root) as other:
            made.append(bring(other, path, SHARDS[0], waiting=waits.set))

    thread = threading.Thread(target=make)
    with open_store(root) as store, store.stage_folder(path, key=KEY):
        thread.start()
        assert waits.wait(10)
    thread.join(10)
    assert made == [True]


# --- where locks are not seen -----------------------------------------------------------


def test_a_temporary_file_of_another_machine_on_nfs_is_not_swept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS gives a lock for one alone to those who may write; the process id is another machine's."""
    real = fcntl.flock

    def nfs(fd: int, how: int) -> None:
        if how & fcntl.LOCK_EX and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(fd, how)

    with store.stage_part(tmp_path / "m", SHARDS[0], KEY, waiting=fail) as part:
        part.create(SHARDS[0]).write(FILES[SHARDS[0]])
        monkeypatch.setattr(fcntl, "flock", nfs)
        monkeypatch.setattr("lorapipe.store.temporaries._alive", lambda pid: False)
        assert sweep(tmp_path) == ()
        part.finish(sha256(FILES[SHARDS[0]]))


def test_without_locks_it_is_made_all_the_same(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    store.database.prepare()
    monkeypatch.setattr(fcntl, "flock", none)
    assert all(bring(store, tmp_path / "m", name) for name in SHARDS)
    assert publish(store, tmp_path / "m") == SHARDS


@pytest.mark.parametrize("took", ["published", "swept", "made anew"])
def test_who_comes_too_late_says_so_and_leaves_nothing(store: Store, tmp_path: Path, took: str) -> None:
    """Another machine, whose lock was not seen, took the part away."""
    path = tmp_path / "m"
    part_folder = part_of(path, KEY)
    with pytest.raises(BuildError) as caught, store.stage_part(path, SHARDS[0], KEY, waiting=fail) as part:  # noqa: PT012  # the writes belong to it
        part.create(SHARDS[0]).write(FILES[SHARDS[0]])
        part_folder.rename(path if took == "published" else tmp_path / "elsewhere")
        if took == "made anew":
            part_folder.mkdir()
        part.finish(sha256(FILES[SHARDS[0]]))
    assert caught.value.code == "part-gone"
    assert hidden(tmp_path) == []


def test_a_file_that_another_machine_brings_meanwhile_is_written_over(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "m"
    with store.stage_folder(path, key=KEY) as staged:
        (staged.temp / "transformer").mkdir()
        (staged.temp / SHARDS[0]).write_bytes(b"of another")
        for name, data in FILES.items():
            staged.create(name).write(data)
            staged.finish(sha256(data))
        store.publish_folder(staged, {name: sha256(data) for name, data in FILES.items()}, KEY)
    assert contents(path) == FILES


def test_what_its_maker_told_is_believed_where_neither_books_nor_memo_know_it(
    root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m"
    for name in SHARDS:
        (part_of(path, KEY) / name).parent.mkdir(parents=True, exist_ok=True)
        (part_of(path, KEY) / name).write_bytes(FILES[name])
    known = {name: (len(FILES[name]), sha256(FILES[name])) for name in SHARDS}
    known[SHARDS[1]] = (1, known[SHARDS[1]][1])
    with open_store(root) as store:
        read: list[str] = []
        assert publish(store, path, known=known, progress=lambda at, *_: read.append(at.name)) == [
            SHARDS[0], *SHARDS[2:]
        ]  # fmt: skip
        assert read == []


def test_the_memo_knows_better_than_what_was_told(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "m"
    with open_store(root) as store:
        bring(store, path, SHARDS[0])
    place = part_of(path, KEY) / SHARDS[0]
    place.write_bytes(b"\7" * len(FILES[SHARDS[0]]))
    time.sleep(0.06)
    with open_store(root) as store:
        assert store.memo.hash(place).sha256 == sha256(place.read_bytes())
        known = {SHARDS[0]: (len(FILES[SHARDS[0]]), sha256(FILES[SHARDS[0]]))}
        assert publish(store, path, known=known) == []


# --- strangers --------------------------------------------------------------------------


def test_no_link_in_a_part_is_followed(store: Store, tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "m", tmp_path / "elsewhere"
    elsewhere.mkdir()
    part_of(path, KEY).mkdir()
    (part_of(path, KEY) / "transformer").symlink_to(elsewhere)
    bring(store, path, SHARDS[0])
    assert list(elsewhere.iterdir()) == []
    place = part_of(path, KEY) / SHARDS[1]
    (elsewhere / "x").write_bytes(FILES[SHARDS[1]])
    place.symlink_to(elsewhere / "x")
    bring(store, path, SHARDS[1])
    assert not place.is_symlink()
    assert publish(store, path) == SHARDS[:2]


@pytest.mark.parametrize("there", ["file", "link"])
def test_what_only_has_the_name_of_a_part_is_an_error_and_not_waited_for(
    store: Store, tmp_path: Path, there: str
) -> None:
    part, elsewhere = part_of(tmp_path / "m", KEY), tmp_path / "elsewhere"
    elsewhere.mkdir()
    if there == "file":
        part.write_bytes(b"x")
    else:
        part.symlink_to(elsewhere)
    with pytest.raises(BuildError) as caught:
        bring(store, tmp_path / "m", SHARDS[0])
    assert caught.value.code == "output-unwritable"
    assert list(elsewhere.iterdir()) == []
