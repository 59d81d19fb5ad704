"""Files read by offset: any bytes, any number of threads, never past the end."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import InputError
from lorapipe.formats.containers import opened
from lorapipe.formats.containers.opened import OpenedFile, row_range
from lorapipe.weights.specs import DTYPES, TensorSpec

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (0, 1), (10, 300), (1023, 1), (1024, 0), (0, 1024)])
def test_any_range_inside_is_read(path: Path, offset: int, length: int) -> None:
    with OpenedFile(path) as file:
        assert file.read(offset, length) == CONTENT[offset : offset + length]
        assert file.size == 1024


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 1025), (1024, 1), (-1, 1), (0, -1), (1 << 62, 1), (0, 1 << 62)]
)
def test_a_range_outside_is_refused_before_anything_is_allocated(
    path: Path, offset: int, length: int
) -> None:
    with OpenedFile(path) as file, pytest.raises(InputError) as caught:
        file.read(offset, length)
    assert caught.value.code == "input-cut-short"


def test_long_reads_are_made_of_short_ones(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "_CALL", 100)
    with OpenedFile(path) as file:
        assert file.read(3, 1000) == CONTENT[3:1003]


def test_the_head_is_what_there_is(path: Path, tmp_path: Path) -> None:
    with OpenedFile(path) as file:
        assert file.head(10) == CONTENT[:10]
    short = tmp_path / "short"
    short.write_bytes(b"ab")
    with OpenedFile(short) as file:
        assert file.head() == b"ab"


def test_a_disk_that_fails_is_an_error_of_the_input(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with OpenedFile(path) as file:
        monkeypatch.setattr(os, "preadv", fail)
        with pytest.raises(InputError, match="cannot be read: Input/output error") as caught:
            file.read(0, 1)
    assert caught.value.code == "input-unreadable"


def test_a_name_with_a_nul_is_refused() -> None:
    with pytest.raises(InputError, match="not a file name") as caught:
        OpenedFile(Path("a\0b"))
    assert caught.value.code == "input-missing"


def test_appending_is_a_change_too(path: Path) -> None:
    with OpenedFile(path) as file:
        with path.open("ab") as stream:
            stream.write(b"more")
        with pytest.raises(InputError, match="changed while it was read"):
            file.read(0, 1)


shapes = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)


@given(st.sampled_from(sorted(DTYPES)), shapes, st.data())
def test_rows_tile_a_tensor(dtype: str, shape: tuple[int, ...], data: st.DataObject) -> None:
    spec = TensorSpec(dtype, shape)
    cuts = sorted(data.draw(st.lists(st.integers(0, shape[0]), max_size=4)))
    borders = [0, *cuts, shape[0]]
    position = 0
    for start, stop in pairwise(borders):
        first, length = row_range(spec, start, stop)
        assert first == position
        position += length
    assert position == spec.nbytes
    assert row_range(spec, 0, None) == (0, spec.nbytes)


def test_a_number_is_read_whole_or_not_at_all() -> None:
    assert row_range(TensorSpec("F16", ()), 0, None) == (0, 2)
    for start, stop in ((0, 1), (0, 0), (1, None)):
        with pytest.raises(ValueError, match="no rows"):
            row_range(TensorSpec("F16", ()), start, stop)
