"""Reading ahead: neighbours come together, in order more than is asked for, and each byte once."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from lorapipe.formats.containers.safetensors import SafetensorsFile
from lorapipe.remote.kept import Kept
from lorapipe.remote.reading import HEAD
from lorapipe.remote.spans import AHEAD, GAP, KEPT, SPAN, Spans, divided
from lorapipe.remote.url import parse_url

from .servers import Faults, Files

RANGES = st.lists(st.tuples(st.integers(0, 40 << 20), st.integers(1, 10 << 20)), max_size=20)


@settings(max_examples=30)
@given(RANGES)
def test_spans_hold_all_ranges_in_order_and_none_twice(ranges: list[tuple[int, int]]) -> None:
    spans = divided(ranges)
    assert all(start < stop and stop - start <= SPAN for start, stop in spans)
    assert all(one[1] <= two[0] for one, two in pairwise(spans))
    held = Spans(spans, lambda start, stop: Future(), lambda future: future.result())
    assert all(held.covers(offset, length) for offset, length in ranges)


@settings(max_examples=30)
@given(RANGES)
def test_spans_hold_little_besides(ranges: list[tuple[int, int]]) -> None:
    wanted = np.zeros(51 << 4, dtype=bool)
    for offset, length in ranges:
        wanted[offset >> 16 : (offset + length - 1 >> 16) + 1] = True
    held = sum(stop - start for start, stop in divided(ranges))
    assert held <= (int(wanted.sum()) << 16) + len(ranges) * GAP


class Fetched:
    """A file in memory, and what is fetched of it; ``gate`` lets the fetching end."""

    def __init__(self, size: int) -> None:
        self.data = (bytes(range(251)) * (size // 251 + 1))[:size]
        self.asked: list[tuple[int, int]] = []
        self.broken = 0

    def begin(self, start: int, stop: int) -> Future[bytearray]:
        self.asked.append((start, stop))
        future: Future[bytearray] = Future()
        if self.broken:
            self.broken -= 1
            future.set_exception(ConnectionError("broken"))
        else:
            future.set_result(bytearray(self.data[start:stop]))
        return future

    def spans(self, ranges: list[tuple[int, int]]) -> Spans:
        return Spans(divided(ranges), self.begin, lambda future: future.result())

    @property
    def bytes(self) -> int:
        return sum(stop - start for start, stop in self.asked)


MIB = 1 << 20


def test_in_order_each_byte_is_fetched_once_and_the_next_are_under_way() -> None:
    file = Fetched(64 * MIB)
    ranges = [(i * MIB // 2, MIB // 2) for i in range(128)]
    spans = file.spans(ranges)
    most = 0
    for n, (offset, length) in enumerate(ranges):
        assert spans.read(offset, length) == file.data[offset : offset + length]
        most = max(most, file.bytes - (n + 1) * MIB // 2)
    assert file.bytes == 64 * MIB
    assert SPAN < most <= AHEAD + SPAN


def test_one_here_and_one_there_fetches_no_more_than_its_span() -> None:
    file = Fetched(40 * MIB)
    size = 400 << 10
    ranges = [(i * size, size) for i in range(100)]
    spans = file.spans(ranges)
    for i in (90, 3, 55, 20, 70, 40, 7, 99, 33, 12):
        spans.read(*ranges[i])
    assert file.bytes == 10 * size


def test_slabs_that_part_a_span_share_it() -> None:
    file = Fetched(30 * MIB)
    spans = file.spans([(0, 30 * MIB)])
    step = 3 * MIB + 17
    parts = [spans.read(at, min(step, 30 * MIB - at)) for at in range(0, 30 * MIB, step)]
    assert b"".join(parts) == file.data
    assert file.bytes == 30 * MIB


def test_what_is_kept_has_a_bound_whatever_is_read() -> None:
    """A byte of each span: none of them is ever done with."""
    file = Fetched(160 * MIB)
    held: list[int] = []
    spans = file.spans([(0, 160 * MIB)])
    for at in range(0, 160 * MIB, SPAN):
        assert spans.read(at, 1) == file.data[at : at + 1]
        held.append(sum(future.done() for future in spans._held.values()) * SPAN)
    assert max(held) <= KEPT + AHEAD + SPAN


def test_a_span_that_failed_is_asked_for_again_by_who_asks_again() -> None:
    file = Fetched(MIB)
    spans = file.spans([(0, MIB)])
    file.broken = 1
    with pytest.raises(ConnectionError):
        spans.read(0, 10)
    assert spans.read(0, 10) == file.data[:10]


def test_what_was_fetched_of_a_small_file_is_there_when_it_is_read_again() -> None:
    file = Fetched(20 * MIB)
    ranges = [(i * MIB, MIB) for i in range(20)]
    spans = Spans(divided(ranges), file.begin, lambda future: future.result(), Kept())
    for _ in range(3):
        for offset, length in reversed(ranges):
            assert spans.read(offset, length) == file.data[offset : offset + length]
    assert file.bytes == 20 * MIB


def test_a_disk_that_is_full_costs_another_fetching(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    file = Fetched(2 * MIB)
    spans = Spans(divided([(0, 2 * MIB)]), file.begin, lambda future: future.result(), Kept())
    assert spans.read(0, 2 * MIB) == file.data
    assert spans.read(0, 2 * MIB) == file.data
    assert file.bytes == 4 * MIB


def test_what_is_kept_has_no_name_and_goes_with_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = Kept()
    kept.put(7, b"some")
    assert kept.get(7) == b"some"
    assert kept.get(8) is None
    assert list(tmp_path.iterdir()) == []
    descriptor = kept._fd
    assert descriptor is not None
    del kept
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)


def test_threads_share_what_is_fetched() -> None:
    file = Fetched(64 * MIB)
    ranges = [(i * MIB // 4, MIB // 4) for i in range(256)]
    spans = file.spans(ranges)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda r: spans.read(*r), ranges))
    assert b"".join(parts) == file.data
    assert file.bytes <= 64 * MIB + 2 * SPAN, "a span may be fetched again, if one comes very late"


@pytest.fixture
def checkpoint(web: Files) -> Iterator[tuple[Files, SafetensorsFile, dict[str, np.ndarray]]]:
    """A file of 100 tensors of 300 KB, the last ten of 10 KB, on a server."""
    rng = np.random.default_rng(1)
    sizes = [300_000] * 90 + [10_000] * 10
    tensors = {f"t{i:03}": rng.integers(0, 255, size, dtype=np.uint8) for i, size in enumerate(sizes)}
    with SafetensorsFile.open(parse_url(web.put("m.safetensors", save(tensors)))) as file:
        web.forget()
        yield web, file, tensors


def test_ten_of_a_hundred_tensors_cost_ten_requests_and_their_bytes(
    checkpoint: tuple[Files, SafetensorsFile, dict[str, np.ndarray]],
) -> None:
    web, file, tensors = checkpoint
    some = [f"t{i:03}" for i in range(5, 90, 9)]
    for name in some[::2] + some[1::2]:
        assert file.read(name) == tensors[name].tobytes()
    assert len(web.asked) == len(some)
    assert web.sent == 300_000 * len(some)


def test_all_tensors_cost_their_bytes_once_and_small_ones_come_together(
    checkpoint: tuple[Files, SafetensorsFile, dict[str, np.ndarray]],
) -> None:
    web, file, tensors = checkpoint
    for name in file.tensors:
        assert file.read(name) == tensors[name].tobytes()
    whole = sum(tensor.nbytes for tensor in tensors.values())
    assert whole - HEAD <= web.sent <= whole
    assert len(web.asked) <= 90 + 1


def test_latency_is_hidden_by_requests_under_way(
    checkpoint: tuple[Files, SafetensorsFile, dict[str, np.ndarray]],
) -> None:
    web, file, _ = checkpoint
    web.faults = Faults(latency=0.02)
    for name in file.tensors:
        file.read(name)
    assert web.most_at_once >= 4


def test_a_file_that_is_closed_while_it_is_read_ahead_leaves_nothing_under_way(
    checkpoint: tuple[Files, SafetensorsFile, dict[str, np.ndarray]],
) -> None:
    web, file, _ = checkpoint
    web.faults = Faults(latency=0.05)
    for name in list(file.tensors)[:8]:
        file.read(name)
    before = threading.active_count()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read("t050")
    assert threading.active_count() <= before + 20
