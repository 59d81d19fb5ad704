"""The two sorts of places for a shared store keep the same promises: a folder, and a bucket of S3."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lorapipe.store.shared.bucket import Bucket, Missing, Trouble, open_bucket

from ...remote import servers
from ...remote.servers import Faults


@pytest.fixture(params=["folder", "s3"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    if request.param == "s3":
        return open_bucket(request.getfixturevalue("s3").url("team/loras"))
    (tmp_path / "server").mkdir()
    return open_bucket(f"file://{tmp_path}/server")


def file_of(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "data"
    path.write_bytes(data)
    return path


def ignored(count: int) -> None:
    pass


def test_what_is_written_is_read_and_what_is_not_there_is_missing(bucket: Bucket) -> None:
    assert bucket.write("a/b", b"hello")
    found, missing, empty = bucket.read(["a/b", "a/c", "d"], 100)

    assert found == b"hello"
    assert isinstance(missing, Missing)
    assert isinstance(empty, Missing)
    assert bucket.size("a/b") == 5
    assert bucket.size("a/c") is None


def test_of_a_large_object_only_the_beginning_is_read_and_one_byte_more(bucket: Bucket) -> None:
    bucket.write("a", bytes(range(200)))
    assert bucket.read(["a"], 10) == [bytes(range(11))]


def test_an_empty_object_is_there(bucket: Bucket) -> None:
    bucket.write("a", b"")
    assert bucket.read(["a"], 10) == [b""]
    assert bucket.size("a") == 0


def test_without_replace_what_is_there_stays(bucket: Bucket) -> None:
    assert bucket.write("a", b"first", replace=False)
    assert not bucket.write("a", b"second", replace=False)
    assert bucket.read(["a"], 10) == [b"first"]
    assert bucket.write("a", b"third")
    assert bucket.read(["a"], 10) == [b"third"]


def test_of_many_that_write_one_name_at_once_one_wins(bucket: Bucket) -> None:
    won: list[int] = []

    def write(number: int) -> None:
        if bucket.write("a", b"%d" % number, replace=False):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert bucket.read(["a"], 10) == [b"%d" % won[0]]


@pytest.mark.parametrize("size", [0, 1, 100_000, 9_000_000])
def test_a_file_is_sent_and_comes_back_byte_for_byte(bucket: Bucket, tmp_path: Path, size: int) -> None:
    data, counts = os.urandom(size), []
    bucket.send("blobs/x", file_of(tmp_path, data), counts.append)

    assert sum(counts) == size
    assert b"".join(bucket.chunks("blobs/x", size)) == data


def test_of_what_is_not_there_no_byte_comes(bucket: Bucket) -> None:
    with pytest.raises(Missing):
        list(bucket.chunks("blobs/x", 5))


@pytest.mark.parametrize("off", [-3, 3])
def test_an_object_of_another_size_never_gives_as_many_bytes_as_are_asked_for(
    bucket: Bucket, tmp_path: Path, off: int
) -> None:
    data = os.urandom(1000)
    bucket.send("x", file_of(tmp_path, data), ignored)
    came = b"".join(bucket.chunks("x", 1000 + off))

    assert len(came) < 1000 + off or came == data[: 1000 + off]


def test_a_file_that_is_gone_is_no_fault_of_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bucket.send("x", tmp_path / "gone", ignored)
    assert bucket.size("x") is None


def test_a_listing_has_what_is_under_a_folder_with_sizes_and_times(bucket: Bucket) -> None:
    for name in ("blobs/aa/1", "blobs/bb/2", "blobsy/3", "other/4"):
        bucket.write(name, name.encode())
    found = {item.name: item for item in bucket.listing("blobs")}

    assert found.keys() == {"blobs/aa/1", "blobs/bb/2"}
    assert found["blobs/aa/1"].size == len("blobs/aa/1")
    assert abs(found["blobs/aa/1"].written_ns - time.time_ns()) < 120e9
    assert list(bucket.listing("nothing")) == []


def test_what_is_removed_is_gone_and_what_was_gone_is_no_matter(bucket: Bucket) -> None:
    bucket.write("a", b"1")
    bucket.write("b", b"2")
    bucket.remove(["a", "never/there"])
    assert (bucket.size("a"), bucket.size("b")) == (None, 1)


# --- a folder alone ---------------------------------------------------------------------


def calls(bucket: Bucket, path: Path) -> list[Callable[[], object]]:
    return [
        lambda: bucket.write("a", b"1"),
        lambda: bucket.send("a", path, ignored),
        lambda: list(bucket.chunks("a", 1)),
        lambda: list(bucket.listing("blobs")),
        lambda: bucket.size("a"),
    ]


def test_a_folder_that_is_not_mounted_is_trouble_and_is_never_made(tmp_path: Path) -> None:
    bucket = open_bucket(f"file://{tmp_path}/gone")
    for call in calls(bucket, file_of(tmp_path, b"1")):
        with pytest.raises(Trouble, match="there is no such folder"):
            call()
    (found,) = bucket.read(["a"], 1)
    assert isinstance(found, Trouble)
    assert not (tmp_path / "gone").exists()


def test_in_a_folder_a_pipe_or_a_folder_where_an_object_should_be_is_trouble(tmp_path: Path) -> None:
    bucket = open_bucket(f"file://{tmp_path}")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for found in bucket.read(["pipe", "folder"], 10):
        assert isinstance(found, Trouble)


def test_in_a_folder_a_writer_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    bucket = open_bucket(f"file://{tmp_path}/server")

    def full(count: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(Trouble, match="no space left on device"):
        bucket.send("a/b", file_of(tmp_path, b"1" * 100), full)
    assert list((tmp_path / "server").rglob("*")) == []


def test_on_a_file_system_without_links_what_is_there_stays_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(self: Path, target: Path) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", unknown)
    bucket = open_bucket(f"file://{tmp_path}")
    assert bucket.write("a", b"first", replace=False)
    assert not bucket.write("a", b"second", replace=False)
    assert bucket.read(["a"], 10) == [b"first"]


# --- a bucket alone -----------------------------------------------------------------------


def test_a_large_result_comes_in_ranges_several_at_a_time(
    s3: servers.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorapipe.store.shared.objects._RANGE", 1 << 16)
    bucket, data = open_bucket(s3.url("team")), os.urandom(10 << 16)
    bucket.send("x", file_of(tmp_path, data), ignored)
    s3.forget()
    s3.faults.latency = 0.02

    assert b"".join(bucket.chunks("x", len(data))) == data
    assert 2 <= s3.proxy.most_at_once <= 4


def test_nothing_is_seen_of_an_upload_that_fails(
    s3: servers.Bucket, tmp_path: Path, small_parts: int
) -> None:
    bucket, data = open_bucket(s3.url("team")), os.urandom(4 * small_parts)

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bucket.send("x", file_of(tmp_path, data), stop)
    assert s3.keys == []


def test_what_is_refused_is_trouble_for_good(s3: servers.Bucket, tmp_path: Path) -> None:
    bucket = open_bucket(s3.url("team"))
    s3.faults = Faults(status=403)
    for call in (lambda: bucket.write("a", b"1"), lambda: bucket.remove(["a"])):
        with pytest.raises(Trouble) as caught:
            call()
        assert caught.value.refused
    assert bucket.size("a") is None


def test_a_bucket_of_a_mistyped_name_is_no_empty_store(s3: servers.Bucket) -> None:
    bucket = open_bucket("s3://no-such-bucket/x")
    (found,) = bucket.read(["a"], 10)
    assert isinstance(found, Trouble)
    assert found.reason == "there is no such bucket"
