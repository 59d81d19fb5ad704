"""The zip directory: where zipfile finds an entry's bytes, so do we."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorapipe.errors import InputError
from lorapipe.formats.containers import zip_directory, zip_writer
from lorapipe.formats.containers.opened import OpenedFile
from lorapipe.formats.containers.output import Sink
from lorapipe.formats.containers.zip_directory import read_directory
from lorapipe.formats.containers.zip_writer import ZipStream

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda name: name == zipfile.ZipInfo(name).filename
)
archives = st.lists(st.tuples(names, st.binary(max_size=200)), max_size=6, unique_by=lambda item: item[0])


def opened(tmp_path: Path, content: bytes) -> OpenedFile:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    return OpenedFile(path)


def contents(file: OpenedFile) -> dict[str, bytes]:
    return {name: bytes(file.read(entry.offset, entry.size)) for name, entry in read_directory(file).items()}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(archives, st.binary(max_size=40), st.booleans())
def test_entries_are_where_zipfile_put_them(
    tmp_path: Path, entries: list[tuple[str, bytes]], comment: bytes, zip64: bool
) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = comment.replace(b"PK", b"--")
        for name, content in entries:
            with archive.open(name, "w", force_zip64=zip64) as entry:
                entry.write(content)
    with opened(tmp_path, stream.getvalue()) as file:
        assert contents(file) == dict(entries)
        assert list(read_directory(file)) == [name for name, _ in entries]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(archives, st.sampled_from([1, 100, 1 << 32]))
def test_records_of_more_than_4_gib_are_understood(
    tmp_path: Path, entries: list[tuple[str, bytes]], limit: int
) -> None:
    """Our own writer, with the border of 32 bits brought down; zipfile judges it in its own test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zip_writer, "_LIMIT", limit)
        stream = io.BytesIO()
        archive = ZipStream(Sink(stream))
        for name, content in entries:
            archive.add(name, content)
        archive.finish()
    with opened(tmp_path, stream.getvalue()) as file:
        assert contents(file) == dict(entries)


SOUND = io.BytesIO()
with zipfile.ZipFile(SOUND, "w") as _archive:
    _archive.writestr("archive/a", b"first")
    _archive.writestr("archive/b", b"second")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, len(SOUND.getvalue()) - 1), st.integers(0, 255)), min_size=1, max_size=4
    )
)
def test_a_damaged_archive_is_refused_or_its_entries_lie_inside(
    tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(SOUND.getvalue())
    for at, byte in changes:
        content[at] = byte
    with opened(tmp_path, bytes(content)) as file:
        try:
            entries = read_directory(file)
        except InputError:
            return
        assert all(e.offset + e.size <= file.size for e in entries.values())


def test_entries_are_not_inflated_nor_decrypted(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(1000))
    with opened(tmp_path, stream.getvalue()) as file, pytest.raises(InputError) as caught:
        read_directory(file)
    assert str(caught.value) == (
        f"{tmp_path / 'x.zip'}: error: holds a compressed entry 'a'; torch.save stores entries as they are - "
        "unpack the archive and save the weights again"
    )
    encrypted = SOUND.getvalue().replace(
        b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"
    )
    assert encrypted != SOUND.getvalue()
    with opened(tmp_path, encrypted) as file, pytest.raises(InputError) as caught:
        read_directory(file)
    assert caught.value.code == "zip-encrypted"


def test_a_huge_directory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_directory, "DIRECTORY_LIMIT", 20)
    with opened(tmp_path, SOUND.getvalue()) as file, pytest.raises(InputError, match="does not fit into it"):
        read_directory(file)
