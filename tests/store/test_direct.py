"""Past the page cache or through it, the bytes of a file are those that were written."""

from __future__ import annotations

import errno
import fcntl
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import BuildError
from lorapipe.store import direct
from lorapipe.store.direct import LARGE, DirectWriter, writer

pytestmark = pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this system has no direct writes")

SIZES = st.sampled_from([0, 1, 4095, 4096, 4097, 70_000, (1 << 22) - 1, 1 << 22, (1 << 22) + 1])


def raw(path: Path) -> io.FileIO:
    return io.FileIO(path, "wb")


def is_direct(file: io.FileIO) -> bool:
    return bool(fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_DIRECT)


def pattern(size: int, seed: int = 0) -> bytes:
    return (bytes(range(seed, 251)) * (size // (251 - seed) + 1))[:size]


@given(pieces=st.lists(SIZES, max_size=5), flushed=st.integers(0, 5))
def test_pieces_of_any_size_arrive_in_order(
    pieces: list[int], flushed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("direct") / "f"
    with DirectWriter(raw(path)) as file:
        for number, size in enumerate(pieces):
            assert file.write(pattern(size, number)) == size
            if number == flushed:
                file.flush()
    assert path.read_bytes() == b"".join(pattern(size, number) for number, size in enumerate(pieces))


def test_only_whole_blocks_go_past_the_cache(tmp_path: Path) -> None:
    below = raw(tmp_path / "f")
    if not (file := DirectWriter(below))._direct:
        pytest.skip("the file system has no direct writes")
    file.write(pattern(1 << 22))
    assert is_direct(below)
    assert (tmp_path / "f").stat().st_size == 1 << 22
    file.write(b"tail")
    file.flush()
    assert not is_direct(below)
    file.close()


class Below(io.FileIO):
    """Takes what ``takes`` says of each write, or fails with an errno below 0."""

    takes: list[int]

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        take = self.takes.pop(0) if self.takes else view.nbytes
        if take < 0:
            raise OSError(-take, os.strerror(-take))
        return super().write(view[:take])


def below(path: Path, *takes: int) -> Below:
    file = Below(path, "wb")
    file.takes = list(takes)
    return file


def test_short_writes_are_gone_on_with(tmp_path: Path) -> None:
    data = pattern((1 << 22) + 10_000)
    with DirectWriter(below(tmp_path / "f", 4096, 100, 1, 5000)) as file:
        file.write(data)
    assert (tmp_path / "f").read_bytes() == data


def test_a_file_system_that_refuses_direct_writes_gets_ordinary_ones(tmp_path: Path) -> None:
    data = pattern(1 << 22)
    file = DirectWriter(below(tmp_path / "f", -errno.EINVAL))
    file._direct = True
    file.write(data)
    file.close()
    assert (tmp_path / "f").read_bytes() == data


def test_the_refusal_is_known_under_the_name_that_the_store_gives_it(tmp_path: Path) -> None:
    class Named(Below):
        def write(self, data: object) -> int:
            try:
                return super().write(data)
            except OSError as error:
                raise BuildError("output-unwritable", "no") from error

    named = Named(tmp_path / "f", "wb")
    named.takes = [-errno.EINVAL]
    file = DirectWriter(named)
    file._direct = True
    file.write(pattern(1 << 22))
    file.close()
    assert (tmp_path / "f").read_bytes() == pattern(1 << 22)


def test_a_full_disk_is_said_and_nothing_is_written_twice_after_it(tmp_path: Path) -> None:
    data = pattern((1 << 22) + 5)
    file = DirectWriter(below(tmp_path / "f", 8192, -errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        file.write(data)
    file.flush()  # there is space again
    file.close()
    assert (tmp_path / "f").read_bytes() == data[: 1 << 22]


def test_a_closed_file_is_closed_below_and_again_is_nothing(tmp_path: Path) -> None:
    under = raw(tmp_path / "f")
    file = DirectWriter(under)
    file.write(b"x")
    file.close()
    file.close()
    assert under.closed
    assert (tmp_path / "f").read_bytes() == b"x"


@pytest.mark.parametrize(("size", "past"), [(None, False), (LARGE - 1, False), (LARGE, True)])
def test_small_files_and_those_of_unknown_size_stay_in_the_cache(
    tmp_path: Path, size: int | None, past: bool
) -> None:
    file = writer(raw(tmp_path / "f"), size, 1 << 18)
    assert isinstance(file, DirectWriter) is past
    file.close()


def test_a_system_without_them_writes_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_O_DIRECT", 0)
    file = writer(raw(tmp_path / "f"), LARGE, 1 << 18)
    assert isinstance(file, io.BufferedWriter)
    file.close()
