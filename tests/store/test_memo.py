"""Digests remembered by file state, and the racy rule."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.errors import InputError
from lorapipe.store.database import Database
from lorapipe.store.digest import FileState
from lorapipe.store.memo import COARSE_NS, FINE_NS, Memo, granularity_ns
from lorapipe.store.paths import StorePaths
from lorapipe.store.store import Store, open_store

NOW = 1_700_000_000_123_456_789
STATE = FileState(dev=1, ino=2, size=3, mtime_ns=NOW, ctime_ns=NOW)
SHA = "a" * 64


def old_file(path: Path, data: bytes) -> Path:
    """A file whose times lie further back than the racy rule's 50 ms."""
    path.write_bytes(data)
    time.sleep(0.06)
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self.slept: list[float] = []

    def __call__(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_ns += round(seconds * 1e9)


def test_what_is_remembered_is_found_by_state_and_by_path(store: Store, tmp_path: Path) -> None:
    path = old_file(tmp_path / "f", b"abc")
    state = FileState.of(path)
    assert store.memo.lookup(path) is None
    assert store.memo.remember(state, sha256(b"abc"), time.time_ns())
    assert store.memo.lookup(path) == store.memo.lookup(state) == sha256(b"abc")


def test_another_process_finds_it_too(root: Path, tmp_path: Path) -> None:
    path = old_file(tmp_path / "f", b"abc")
    with open_store(root) as first:
        first.memo.hash(path)
    with open_store(root) as second:
        assert second.memo.lookup(path) == sha256(b"abc")
    with open_store(root, looking=True) as looking:
        assert looking.memo.lookup(path) == sha256(b"abc")


def test_a_path_that_is_not_there_is_unknown(store: Store, tmp_path: Path) -> None:
    assert store.memo.lookup(tmp_path / "gone") is None


@pytest.mark.parametrize("field", ["dev", "ino", "size", "mtime_ns", "ctime_ns"])
def test_any_difference_in_state_makes_it_unknown(store: Store, field: str) -> None:
    assert store.memo.remember(STATE, SHA, NOW + FINE_NS + 1)
    assert store.memo.lookup(STATE) == SHA
    assert store.memo.lookup(replace(STATE, **{field: getattr(STATE, field) + 1})) is None


@pytest.mark.parametrize("restored", [False, True])
def test_a_file_rewritten_at_the_same_size_is_not_taken_for_the_old_one(
    store: Store, tmp_path: Path, restored: bool
) -> None:
    """Setting mtime back does not help: ctime cannot be set."""
    path = old_file(tmp_path / "f", b"old bytes")
    assert store.memo.hash(path).sha256 == sha256(b"old bytes")
    before = path.stat()
    path.write_bytes(b"new bytes")
    if restored:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert store.memo.lookup(path) is None
    assert store.memo.hash(path).sha256 == sha256(b"new bytes")


def test_a_file_just_written_is_not_remembered(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    assert store.memo.hash(path).sha256 == sha256(b"abc")
    assert store.memo.lookup(path) is None


@given(
    age=st.integers(-(10**10), 10**10),
    coarse=st.booleans(),
    older=st.sampled_from(["mtime_ns", "ctime_ns", None]),
)
@settings(max_examples=60, deadline=None)
def test_the_racy_rule(tmp_path_factory: pytest.TempPathFactory, age: int, coarse: bool, older: str) -> None:
    """Remembered if and only if both times lie further back than the granularity."""
    changed = NOW - NOW % 10**9 + (0 if coarse else 1)
    state = FileState(1, 2, 3, changed, changed)
    if older is not None:
        state = replace(state, **{older: changed - 5 * 10**9})
    with open_store(tmp_path_factory.mktemp("racy")) as opened:
        expected = age > (2_000_000_000 if coarse else 50_000_000)
        assert opened.memo.remember(state, SHA, changed + age) is expected
        assert opened.memo.lookup(state) == (SHA if expected else None)


def test_a_clock_of_seconds_is_known_by_both_times() -> None:
    second = NOW - NOW % 10**9
    assert granularity_ns(replace(STATE, mtime_ns=second, ctime_ns=second)) == COARSE_NS == 2 * 10**9
    assert granularity_ns(replace(STATE, mtime_ns=second)) == FINE_NS == 50 * 10**6
    assert granularity_ns(STATE) == FINE_NS


def test_hashing_again_reads_nothing(store: Store, tmp_path: Path) -> None:
    path = old_file(tmp_path / "f", b"abc")
    seen: list[int] = []
    first = store.memo.hash(path, lambda done, total: seen.append(done))
    assert seen == [3]
    second = store.memo.hash(path, lambda done, total: seen.append(done))
    assert seen == [3]
    assert (second.sha256, second.state) == (first.sha256, first.state)


def test_hashing_what_is_not_there_is_the_hashers_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        store.memo.hash(tmp_path / "gone")
    assert caught.value.code == "input-missing"


def test_an_inode_of_64_bits_is_no_problem(store: Store) -> None:
    state = replace(STATE, ino=2**64 - 1, dev=2**64 - 2)
    assert store.memo.remember(state, SHA, NOW + FINE_NS + 1)
    assert store.memo.lookup(state) == SHA


def test_a_flipped_bit_in_the_memo_is_not_believed(store: Store) -> None:
    store.memo.remember(STATE, SHA, NOW + FINE_NS + 1)
    store.database.write(("UPDATE memo SET sha256 = ?", ("b" + SHA[1:],)))
    assert store.memo.lookup(STATE) is None


def test_a_file_has_one_row_however_often_it_changes(store: Store) -> None:
    for step in range(3):
        store.memo.remember(replace(STATE, size=step), SHA, NOW + FINE_NS + 1)
    assert store.database.query("SELECT size FROM memo") == [(2,)]


def test_looking_remembers_nothing_and_makes_nothing(root: Path, tmp_path: Path) -> None:
    path = old_file(tmp_path / "f", b"abc")
    with open_store(root, looking=True) as looking:
        assert looking.memo.hash(path).sha256 == sha256(b"abc")
        assert not looking.memo.remember(STATE, SHA, NOW + FINE_NS + 1)
        looking.memo.later(path, FileState.of(path), SHA)
    assert not root.parent.exists()


def test_a_store_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_bytes(b"")
    path = old_file(tmp_path / "f", b"abc")
    with open_store(tmp_path / "in-the-way") as broken:
        assert broken.memo.hash(path).sha256 == sha256(b"abc")
        assert broken.memo.lookup(path) is None


@pytest.fixture
def settling(root: Path) -> Callable[[Clock], Memo]:
    def make(clock: Clock) -> Memo:
        return Memo(Database(StorePaths(root)), clock=clock, sleep=clock.sleep)

    return make


def test_an_output_is_remembered_at_once_after_waiting_out_the_difference(
    settling: Callable[[Clock], Memo], tmp_path: Path
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    state = FileState.of(path)
    clock = Clock(state.changed_ns + 20_000_000)
    memo = settling(clock)
    memo.later(path, state, sha256(b"abc"))
    memo.settle()
    assert clock.slept == [pytest.approx(0.030, abs=1e-6)]
    assert memo.lookup(path) == sha256(b"abc")
    memo.settle()
    assert len(clock.slept) == 1
    memo._database.close()


def test_several_outputs_wait_once(settling: Callable[[Clock], Memo], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(path.name.encode())
    clock = Clock(FileState.of(paths[-1]).changed_ns)
    memo = settling(clock)
    for path in paths:
        memo.later(path, FileState.of(path), sha256(path.name.encode()))
    memo.settle()
    assert len(clock.slept) == 1
    assert [memo.lookup(path) for path in paths] == [sha256(path.name.encode()) for path in paths]
    memo._database.close()


def test_an_output_that_changed_meanwhile_is_not_remembered(
    settling: Callable[[Clock], Memo], tmp_path: Path
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    state = FileState.of(path)
    memo = settling(Clock(state.changed_ns))
    memo.later(path, state, sha256(b"abc"))
    time.sleep(0.02)
    path.write_bytes(b"xyz")
    memo.settle()
    assert memo.lookup(path) is None
    assert memo.lookup(state) is None
    memo.later(path, None, sha256(b"abc"))  # another program wrote to it: nothing to wait for
    memo.settle()
    memo._database.close()


def test_a_server_clock_far_ahead_is_not_waited_for(
    settling: Callable[[Clock], Memo], tmp_path: Path
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    state = FileState.of(path)
    clock = Clock(state.changed_ns - 3600 * 10**9)
    memo = settling(clock)
    memo.later(path, state, sha256(b"abc"))
    memo.settle()
    assert clock.slept == [2.0]
    assert memo.lookup(path) is None
    memo._database.close()


def test_on_the_real_clock_a_settled_output_is_known(store: Store, tmp_path: Path) -> None:
    with store.stage(tmp_path / "f") as staged:
        staged.file.write(b"abc")
        state = staged.publish()
    store.memo.later(tmp_path / "f", state, sha256(b"abc"))
    store.memo.settle()
    assert store.memo.lookup(tmp_path / "f") == sha256(b"abc")


def test_the_guard_covers_every_column(store: Store) -> None:
    """A row whose file column was damaged must not answer for another file."""
    store.memo.remember(STATE, SHA, NOW + FINE_NS + 1)
    store.database.write(("UPDATE memo SET file = ?", ("9:9",)))
    assert store.memo.lookup(replace(STATE, dev=9, ino=9)) is None
    with closing(store.database):
        pass
