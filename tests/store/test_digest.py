"""sha256 of files, and the state by which a file is known again."""

from __future__ import annotations

import hashlib
import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorapipe.errors import InputError, Interrupted
from lorapipe.store.digest import FileState, HashingFile, hash_file, is_sha256, sha256_file

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 17])
def test_the_digest_is_sha256_of_all_bytes(tmp_path: Path, size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    (tmp_path / "f").write_bytes(data)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(data).hexdigest()


def test_progress_counts_up_to_the_size(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(2 * MIB + 5))
    seen: list[tuple[int, int]] = []
    sha256_file(tmp_path / "f", lambda done, total: seen.append((done, total)))
    assert seen == [(MIB, 2 * MIB + 5), (2 * MIB, 2 * MIB + 5), (2 * MIB + 5, 2 * MIB + 5)]


def test_what_progress_raises_ends_the_reading(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(2 * MIB))
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        raise Interrupted("interrupted", "stop")

    with pytest.raises(Interrupted):
        sha256_file(tmp_path / "f", stop)
    assert seen == [MIB]


def test_the_result_tells_state_and_time_of_the_reading(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    before = time.time_ns()
    hashed = hash_file(tmp_path / "f")
    assert hashed.state == FileState.of(tmp_path / "f")
    assert before <= hashed.ended_ns <= time.time_ns()


def appending(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def rewriting_and_setting_mtime_back(path: Path) -> None:
    found = path.stat()
    with path.open("r+b") as file:
        file.write(b"y" * 10)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize("change", [appending, rewriting_and_setting_mtime_back, Path.unlink])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, change: object) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(2 * MIB))
    time.sleep(0.02)  # past the tick in which it was made
    steps = iter([change])

    def progress(done: int, total: int) -> None:
        for act in steps:
            act(path)  # type: ignore[operator]

    with pytest.raises(InputError) as caught:
        sha256_file(path, progress)
    assert caught.value.code == "changed-while-read"
    assert str(caught.value) == (
        f"{path}: error: it changed while it was read"
        " - wait until the program that writes it has finished, then run again"
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        sha256_file(tmp_path / "gone")
    assert caught.value.code == "input-missing"
    assert str(caught.value) == f"{tmp_path}/gone: error: no such file"


def test_a_folder_and_a_pipe_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError) as caught:
            sha256_file(path)
        assert caught.value.code == "input-unreadable"
        assert str(caught.value) == f"{path}: error: cannot be read: it is not a regular file"


def test_states_differ_by_size_content_time_and_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    first = FileState.of(path)
    assert first == FileState.of(path)
    time.sleep(0.02)
    rewriting_and_setting_mtime_back(path)
    second = FileState.of(path)
    assert second.mtime_ns == first.mtime_ns
    assert second.ctime_ns > first.ctime_ns
    assert second != first
    assert second.changed_ns == second.ctime_ns


def test_links_of_both_sorts_have_the_identity_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    (tmp_path / "soft").symlink_to(path)
    (tmp_path / "hard").hardlink_to(path)
    (tmp_path / "copy").write_bytes(b"abc")
    identity = FileState.of(path).identity
    assert FileState.of(tmp_path / "soft").identity == identity
    assert FileState.of(tmp_path / "hard").identity == identity
    assert FileState.of(tmp_path / "copy").identity != identity


def test_the_state_of_an_open_file_is_that_of_its_path(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        assert FileState.of(file.fileno()) == FileState.of(tmp_path / "f")


@given(pieces=st.lists(st.binary(max_size=50), max_size=8))
@settings(max_examples=50, deadline=None)
def test_a_hashing_file_passes_bytes_on_and_hashes_them(pieces: list[bytes]) -> None:
    target = io.BytesIO()
    sink = HashingFile(target)
    for piece in pieces:
        assert sink.write(piece) == len(piece)
        assert sink.tell() == sink.size == len(target.getvalue())
    assert target.getvalue() == b"".join(pieces)
    assert sink.sha256 == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_a_hashing_file_takes_arrays_by_their_bytes() -> None:
    target = io.BytesIO()
    sink = HashingFile(target)
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    assert sink.write(array.data) == 24
    assert sink.write(np.empty((0, 3), dtype="<f4").data) == 0
    assert target.getvalue() == array.tobytes()


def test_a_hashing_file_does_not_seek() -> None:
    sink = HashingFile(io.BytesIO())
    assert sink.writable()
    assert not sink.seekable()
    with pytest.raises(io.UnsupportedOperation):
        sink.seek(0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a" * 64, True),
        ("0" * 64, True),
        ("A" * 64, False),
        ("a" * 65, False),
        ("g" * 64, False),
        (None, False),
    ],
)
def test_only_lower_case_hexadecimal_of_full_length_is_a_sha256(value: object, expected: bool) -> None:
    assert is_sha256(value) is expected


def test_a_file_replaced_by_a_rename_while_it_is_read_is_read_anew(tmp_path: Path) -> None:
    path, other = tmp_path / "f", tmp_path / "g"
    path.write_bytes(b"a" * (3 << 20))
    other.write_bytes(b"b" * (3 << 20))

    def replace_once(done: int, total: int) -> None:
        if other.exists():
            other.replace(path)

    assert sha256_file(path, replace_once) == hashlib.sha256(b"b" * (3 << 20)).hexdigest()


def test_a_file_that_is_replaced_again_and_again_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a" * (2 << 20))

    def replace_it(done: int, total: int) -> None:
        other = tmp_path / "g"
        other.write_bytes(b"b" * (2 << 20))
        other.replace(path)

    with pytest.raises(InputError, match="changed while it was read"):
        sha256_file(path, replace_it)
