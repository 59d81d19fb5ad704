"""Every result read again: what is not what it is called goes, with all keys that lead to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lorapipe.store.store import Store
from lorapipe.store.verification import verify

Digest = Callable[[str], str]


def put(store: Store, key: str, data: bytes) -> Path:
    return store.entries.put(key, lambda file: [file.write(data), None][1], "p").path


def unheard(path: Path, done: int, total: int) -> None:
    pass


def test_a_sound_store_is_read_whole_and_stays(store: Store, digest: Digest) -> None:
    put(store, digest("a"), b"a" * 10)
    put(store, digest("b"), b"b" * 20)
    read: dict[str, int] = {}

    found = verify(store, lambda path, done, total: read.update({path.name: done}))

    assert (found.sound, found.size, found.damaged) == (2, 30, ())
    assert sorted(read.values()) == [10, 20]
    assert store.entries.get(digest("a")) is not None


@pytest.mark.parametrize("size", [9, 10, 11], ids=["cut short", "flipped", "longer"])
def test_a_damaged_result_goes_with_its_keys_and_the_others_stay(
    store: Store, digest: Digest, size: int
) -> None:
    path = put(store, digest("1"), b"x" * 10)
    put(store, digest("2"), b"x" * 10)
    good = put(store, digest("good"), b"good")
    before = path.stat()
    path.write_bytes(b"y" * size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    found = verify(store, unheard)

    (damaged,) = found.damaged
    assert sorted(entry.key for entry in damaged.entries) == sorted([digest("1"), digest("2")])
    assert not path.exists()
    assert good.exists()
    assert [entry.key for entry in store.entries.all()] == [digest("good")]
    assert verify(store, unheard).damaged == ()


def test_bytes_that_rotted_without_a_write_are_found(store: Store, digest: Digest) -> None:
    """The memo trusts a file's state; only reading shows that a disk gives back other bytes."""
    path = put(store, digest("a"), b"a" * 10)
    store.memo.settle()
    path.write_bytes(b"b" * 10)
    state_of_the_rotten = path.stat()
    assert state_of_the_rotten.st_size == 10
    from lorapipe.store.digest import FileState

    store.memo.remember(FileState.of(path), path.name, 10**20)  # as if it had never been written to
    assert store.entries.get(digest("a")) is not None

    assert len(verify(store, unheard).damaged) == 1
    assert store.entries.get(digest("a")) is None


def test_a_result_that_cannot_be_read_is_damaged_and_one_that_went_meanwhile_is_not(
    store: Store, digest: Digest
) -> None:
    path = put(store, digest("a"), b"a")
    path.unlink()
    path.mkdir()
    other = put(store, digest("b"), b"b")

    def vanish(path: Path, done: int, total: int) -> None:
        pass

    found = verify(store, vanish)
    assert [kept.key for kept in found.damaged] == [digest("a")]
    assert other.exists()


def test_what_was_read_is_remembered(store: Store, digest: Digest) -> None:
    import time

    path = put(store, digest("a"), b"a")
    time.sleep(0.06)
    assert store.memo.lookup(path) is None
    verify(store, unheard)
    assert store.memo.lookup(path) == path.name
