"""What is hashed on another thread is hashed in order, in bounded memory, and to the last byte."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.formats.containers import hashing
from lorapipe.formats.containers.hashing import BEHIND, HashBeside

SIZES = st.sampled_from([0, 1, 100, (1 << 16) - 1, 1 << 16, 1 << 20, BEHIND + 1])


def piece(size: int, number: int) -> bytes:
    return bytes([number % 251]) * size


class Slow:
    """sha256 that waits for ``go`` before each update, and notes what it was given, and where."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.taken: list[int] = []
        self.threads: set[str] = set()

    def update(self, data: memoryview) -> None:
        assert self.go.acquire(timeout=10)
        self.taken.append(data.nbytes)
        self.threads.add(threading.current_thread().name)

    def hexdigest(self) -> str:
        return "done"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    made = Slow()
    monkeypatch.setattr(hashing.hashlib, "sha256", lambda: made)
    yield made
    made.go.release(1000)


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(SIZES, max_size=6), asked=st.integers(0, 6))
def test_the_digest_is_that_of_all_pieces_in_their_order(sizes: list[int], asked: int) -> None:
    beside, whole = HashBeside(), hashlib.sha256()
    for number, size in enumerate(sizes):
        beside.update(memoryview(piece(size, number)))
        whole.update(piece(size, number))
        if number == asked:
            assert beside.hexdigest() == whole.hexdigest()
    assert beside.hexdigest() == whole.hexdigest()


def test_who_gives_a_long_piece_does_not_wait_for_its_hash(slow: Slow) -> None:
    beside = HashBeside()

    beside.update(memoryview(bytes(1 << 20)))  # would wait for ever on this thread

    assert slow.taken == []
    slow.go.release()
    assert beside.hexdigest() == "done"
    assert slow.threads.isdisjoint({threading.current_thread().name})


def test_a_short_piece_behind_a_long_one_is_not_hashed_before_it(slow: Slow) -> None:
    beside = HashBeside()
    for size in (1 << 20, 1, 1 << 20, 2):
        beside.update(memoryview(bytes(size)))
    slow.go.release(4)
    beside.hexdigest()
    assert slow.taken == [1 << 20, 1, 1 << 20, 2]


def test_no_more_than_so_many_bytes_are_behind(slow: Slow) -> None:
    beside, given_all = HashBeside(), threading.Event()

    def give() -> None:
        for _ in range(3):
            beside.update(memoryview(bytes(BEHIND // 2)))
        given_all.set()

    giver = threading.Thread(target=give)
    giver.start()
    assert not given_all.wait(0.05)  # the third waits for the first
    slow.go.release()
    assert given_all.wait(10)
    giver.join()
    slow.go.release(2)
    beside.hexdigest()


def test_short_pieces_alone_need_no_thread() -> None:
    before = threading.active_count()
    beside = HashBeside()
    for number in range(100):
        beside.update(memoryview(piece(1000, number)))
    assert threading.active_count() == before


def test_the_thread_ends_with_the_digest_or_when_it_is_forgotten() -> None:
    before = threading.active_count()
    done, forgotten = HashBeside(), HashBeside()
    for beside in (done, forgotten):
        beside.update(memoryview(bytes(1 << 20)))
    done.hexdigest()
    del beside, forgotten
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
