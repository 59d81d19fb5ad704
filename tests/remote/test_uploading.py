from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.errors import BuildError, RecipeError
from lorapipe.remote import uploading
from lorapipe.remote.targets.target import ABSENT, ANYTHING, Expected
from lorapipe.remote.uploading import LARGEST, Upload, abort, part_size, try_writing
from lorapipe.remote.url import Url, parse_url

from .sending import SMALL, Mishap, Way, impatient, unfinished
from .servers import Bucket, Faults


def some(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311  # the same each time


def upload(url: str, data: bytes, **more: Any) -> Upload:
    """An upload of ``data``, not complete yet, that is aborted when it fails."""
    sending = Upload(parse_url(url), len(data), **more)
    try:
        for at in range(0, len(data), 100_003):
            sending.write(data[at : at + 100_003])
    except BaseException:
        abort((sending,))
        raise
    return sending


def fault(action: Callable[[], object]) -> BuildError:
    with pytest.raises(BuildError) as caught:
        action()
    return caught.value


# --- against S3 ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, SMALL, 9 * SMALL + 1])
def test_an_object_has_the_bytes_that_were_written_and_is_not_there_before(
    s3: Bucket, small_parts: int, size: int
) -> None:
    told: list[int] = []
    sending = upload(s3.url("a/x y.bin"), some(size), sent=told.append)
    sending.seal()
    assert s3.keys == []
    sending.complete()
    assert s3.get("a/x y.bin") == some(size)
    assert sum(told) == size
    assert unfinished(s3) == []


def test_parts_of_the_real_size_are_such_as_s3_takes(s3: Bucket) -> None:
    data = bytes(2 * uploading.PART + 1)
    upload(s3.url("x"), data).complete()
    head = s3.client.head_object(Bucket=s3.name, Key="x")
    assert (head["ContentLength"], head["ETag"][-3:-1]) == (len(data), "-3")


def test_what_is_small_goes_up_by_one_request(s3: Bucket) -> None:
    upload(s3.url("x"), b"a" * 1000).complete()
    assert [asked.method for asked in s3.asked] == ["PUT"]


def test_s3_keeps_the_sha256_of_what_is_small(s3: Bucket) -> None:
    import base64
    import hashlib

    upload(s3.url("x"), some(1000)).complete()
    kept = s3.client.head_object(Bucket=s3.name, Key="x", ChecksumMode="ENABLED")["ChecksumSHA256"]
    assert base64.b64decode(kept) == hashlib.sha256(some(1000)).digest()


def test_an_upload_that_is_aborted_leaves_nothing(s3: Bucket, small_parts: int) -> None:
    sending = upload(s3.url("x"), some(5 * SMALL))
    assert unfinished(s3, 0) == ["x"]
    abort((sending,))
    assert (s3.keys, unfinished(s3)) == ([], [])


def test_an_abort_after_the_end_takes_nothing_away(s3: Bucket, small_parts: int) -> None:
    sending = upload(s3.url("x"), some(5 * SMALL))
    sending.complete()
    abort((sending,))
    assert s3.get("x") == some(5 * SMALL)


# --- only what is expected is replaced ----------------------------------------------------


@pytest.mark.parametrize("size", [10, 3 * SMALL])
def test_an_object_that_came_meanwhile_stays(s3: Bucket, small_parts: int, size: int) -> None:
    sending = upload(s3.url("x"), some(size))
    s3.put("x", b"another's")
    error = fault(sending.complete)
    abort((sending,))
    assert error.code == "output-raced"
    assert error.where == s3.url("x")
    assert (s3.get("x"), unfinished(s3)) == (b"another's", [])


def test_the_object_that_was_looked_at_is_replaced(s3: Bucket) -> None:
    s3.put("x", b"old")
    sending = upload(s3.url("x"), b"new")
    sending.look()
    sending.complete()
    assert s3.get("x") == b"new"


def test_another_object_than_the_one_that_was_looked_at_is_not_replaced(s3: Bucket) -> None:
    s3.put("x", b"old")
    sending = upload(s3.url("x"), b"new")
    sending.look()
    s3.put("x", b"newer")
    assert fault(sending.complete).code == "output-raced"
    assert s3.get("x") == b"newer"


@pytest.mark.parametrize("size", [10, 3 * SMALL])
def test_anything_is_replaced_where_that_is_asked_for(s3: Bucket, small_parts: int, size: int) -> None:
    sending = upload(s3.url("x"), some(size), expected=ANYTHING)
    s3.put("x", b"another's")
    sending.complete()
    assert s3.get("x") == some(size)


def test_a_store_that_knows_no_conditions_is_asked_without(s3: Bucket, small_parts: int) -> None:
    conditional = [asked for asked in s3.asked if "If-None-Match" in asked.headers]
    assert conditional == []
    s3.faults = Faults(status=501, times=1, only=lambda method, path: method == "PUT")
    upload(s3.url("x"), b"new").complete()
    s3.faults = Faults(status=501, times=1, only=lambda method, path: method == "POST" and "uploadId" in path)
    upload(s3.url("y"), some(3 * SMALL)).complete()
    assert (s3.get("x"), s3.get("y")) == (b"new", some(3 * SMALL))


# --- what goes wrong on the way -----------------------------------------------------------


def is_part(method: str, path: str) -> bool:
    return method == "PUT" and "partNumber" in path


def is_end(method: str, path: str) -> bool:
    return method == "POST" and "uploadId" in path


@pytest.mark.parametrize("cut_after", [SMALL // 2])
def test_a_part_whose_connection_ends_is_sent_again(
    s3: Bucket, way: Way, small_parts: int, cut_after: int
) -> None:
    way.mishap = Mishap(cut_after=cut_after, times=3, only=is_part)
    upload(s3.url("x"), some(9 * SMALL)).complete()
    assert s3.get("x") == some(9 * SMALL)
    assert way.mishap.times == 0


@pytest.mark.parametrize("only", [is_part, is_end], ids=["part", "end"])
def test_an_answer_that_gets_lost_costs_nothing(
    s3: Bucket, way: Way, small_parts: int, only: Callable[[str, str], bool]
) -> None:
    way.mishap = Mishap(lost=True, times=1, only=only)
    upload(s3.url("x"), some(3 * SMALL)).complete()
    assert s3.get("x") == some(3 * SMALL)
    assert (way.mishap.times, unfinished(s3)) == (0, [])


def test_the_lost_answer_to_a_small_object_is_no_other_builder(s3: Bucket, way: Way) -> None:
    way.mishap = Mishap(lost=True, times=1, only=lambda method, path: method == "PUT")
    upload(s3.url("x"), b"new").complete()
    assert (s3.get("x"), way.mishap.times) == (b"new", 0)


def test_a_server_that_fails_for_a_while_is_asked_again(s3: Bucket, small_parts: int) -> None:
    s3.faults = Faults(status=503, times=3)
    upload(s3.url("x"), some(3 * SMALL)).complete()
    assert s3.get("x") == some(3 * SMALL)


def test_a_server_that_fails_for_good_is_one_error_that_names_it(
    s3: Bucket, small_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    s3.faults = Faults(status=503, only=is_part)
    error = fault(lambda: upload(s3.url("x"), some(9 * SMALL)))
    assert (error.code, error.exit_status, error.where) == ("remote-failing", 5, s3.url("x"))
    assert "503" in error.message
    assert error.hint
    assert (s3.keys, unfinished(s3)) == ([], [])


def test_a_slow_server_is_borne(s3: Bucket, small_parts: int) -> None:
    s3.faults = Faults(latency=0.05)
    upload(s3.url("x"), some(4 * SMALL)).complete()
    assert s3.get("x") == some(4 * SMALL)


def test_a_server_that_takes_nothing_is_given_up(
    s3: Bucket, way: Way, small_parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORAPIPE_REMOTE_TIMEOUT", "0.6")
    way.mishap = Mishap(stall=True, only=is_part)
    started = time.monotonic()
    error = fault(lambda: upload(s3.url("x"), some(9 * SMALL)).complete())
    assert error.code == "remote-timeout"
    assert time.monotonic() - started < 20


def test_who_is_told_to_stop_does_so_within_a_second_and_leaves_nothing(
    s3: Bucket, way: Way, small_parts: int
) -> None:
    class Stop(Exception):
        pass

    asked = threading.Event()

    def go_on() -> None:
        if asked.is_set():
            raise Stop

    way.mishap = Mishap(stall=True, only=is_part)
    threading.Timer(0.3, asked.set).start()
    started = time.monotonic()
    with pytest.raises(Stop):
        upload(s3.url("x"), some(20 * SMALL), go_on=go_on)
    assert time.monotonic() - started < 3  # of 60; a loaded machine takes its time
    assert (s3.keys, unfinished(s3)) == ([], [])


# --- before the work ----------------------------------------------------------------------


def test_a_bucket_that_can_be_written_is_left_as_it_was(s3: Bucket) -> None:
    try_writing(parse_url(s3.url("a/x")))
    assert (s3.keys, unfinished(s3)) == ([], [])


def test_a_bucket_that_is_not_there_is_named(s3: Bucket) -> None:
    error = fault(lambda: try_writing(parse_url("s3://no-such-bucket/a/x")))
    assert (error.code, error.exit_status) == ("remote-missing", 5)
    assert error.where == "s3://no-such-bucket/a/x"
    assert error.message == "there is no such bucket"


def test_a_bucket_that_may_not_be_written_says_so(s3: Bucket) -> None:
    s3.faults = Faults(status=403)
    error = fault(lambda: try_writing(parse_url(s3.url("x"))))
    assert (error.code, error.exit_status) == ("remote-forbidden", 5)
    assert "AWS_PROFILE" in str(error.hint)


def test_a_lack_of_credentials_says_so(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = fault(lambda: try_writing(parse_url(s3.url("x"))))
    assert (error.code, error.message) == ("remote-forbidden", "there are no credentials for it")


@pytest.mark.parametrize("url", ["hf://org/repo/x.safetensors", "https://host/x.safetensors", "memory://a/x"])
def test_what_can_only_be_read_is_refused_with_another_way(url: str) -> None:
    with pytest.raises(RecipeError) as caught:
        try_writing(parse_url(url))
    assert caught.value.code == "remote-read-only"
    assert caught.value.hint


# --- whatever is written, and however -----------------------------------------------------


class Kept:
    """A target that keeps parts, and lets a test say when they have come."""

    def __init__(self, align: int = 1, at_once: int = 3) -> None:
        self.align, self.at_once = align, at_once
        self.parts: dict[int, tuple[int, bytes]] = {}
        self.under_way = self.most = 0
        self.object: bytes | None = None
        self.forgotten = False

    async def look(self) -> Expected:
        return ABSENT

    async def begin(self, expected: Expected) -> None:
        pass

    async def send(self, number: int, start: int, part: io.BytesIO) -> None:
        import asyncio

        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.0001)
        self.parts[number] = (start, part.read())
        self.under_way -= 1

    async def complete(self, start: int, rest: io.BytesIO) -> None:
        whole = b""
        for _, (at, part) in sorted(self.parts.items()):
            assert at == len(whole)
            whole += part
        assert start == len(whole)
        self.object = whole + rest.read()

    async def whole(self, body: io.BytesIO, expected: Expected) -> None:
        self.object = body.read()

    async def abort(self) -> None:
        self.forgotten = True


def into(target: Kept, monkeypatch: pytest.MonkeyPatch, part: int, size: int | None = None) -> Upload:
    monkeypatch.setattr(uploading, "target_of", lambda url: target)
    monkeypatch.setattr(uploading, "PART", part)
    return Upload(Url("s3", "bucket", "x"), size)


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 40), max_size=12),
    align=st.sampled_from([1, 4]),
    part=st.sampled_from([4, 8, 16]),
)
def test_parts_in_their_order_are_the_bytes_however_they_were_written(
    cuts: list[int], align: int, part: int
) -> None:
    data = some(sum(cuts))
    target = Kept(align)
    with pytest.MonkeyPatch.context() as patch:
        sending, at = into(target, patch, part), 0
        for cut in cuts:
            assert sending.write(memoryview(data)[at : at + cut]) == cut
            at += cut
            assert sending.tell() == at
        sending.complete()
    assert target.object == data
    sizes = [len(target.parts[number][1]) for number in sorted(target.parts)]
    assert all(size == part for size in sizes[:-1])
    assert all(size % align == 0 for size in sizes)
    assert target.most <= target.at_once


def test_memory_is_bounded_by_the_parts_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    target = Kept()

    async def swallow(number: int, start: int, part: io.BytesIO) -> None:
        import asyncio

        await asyncio.sleep(0.001)

    monkeypatch.setattr(target, "send", swallow)
    sending, piece = into(target, monkeypatch, 1 << 16), bytes(1 << 16)
    tracemalloc.start()
    try:
        for _ in range(200):
            sending.write(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < (target.at_once + 3) * (1 << 17)


@given(st.one_of(st.integers(0, LARGEST), st.integers(0, 1 << 34)))
def test_no_object_has_more_parts_than_s3_takes(size: int) -> None:
    part = part_size(size)
    whole = size + size // 50  # a header, at its largest
    assert whole <= 10_000 * part
    assert part % (1 << 18) == 0
    assert 5 << 20 <= part <= 5 << 30
    assert part <= max(8 << 20, size // 9_500 + (2 << 20))


def test_a_part_of_unknown_size_is_small() -> None:
    assert part_size(None) == 8 << 20
