"""The digest of an input or an output, file or folder, as the memo has it or as it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lorapipe.build import digests as module
from lorapipe.build.records import Records
from lorapipe.errors import InputError
from lorapipe.plan.files import identify
from lorapipe.store.contents import whole_digest
from lorapipe.store.digest import sha256_file

from ..bench import Bench
from ..formats.model_folders import hf_folder


@pytest.fixture
def records(bench: Bench) -> Iterator[Records]:
    with Records(looking=False) as opened:
        yield opened


def filled(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_the_digest_of_a_folder_is_that_of_all_in_it(records: Records, tmp_path: Path) -> None:
    folder = filled(tmp_path / "m", {"a": "1", ".b": "2"})
    assert records.digests.hash(folder) == whole_digest(folder, sha256_file)
    assert records.present(folder) == whole_digest(folder, sha256_file)
    assert records.present(folder / "a") == sha256_file(folder / "a")
    assert records.present(tmp_path / "nothing") is None


def test_what_is_known_of_a_folder_is_known_of_each_file(records: Records, tmp_path: Path) -> None:
    folder = filled(tmp_path / "m", {"a": "1"})
    assert records.digests.known(folder) is None
    assert records.digests.known(filled(tmp_path / "empty", {})) == whole_digest(
        tmp_path / "empty", sha256_file
    )


def test_a_folder_that_another_build_replaces_while_it_is_read_is_read_anew(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the old one and half of the new one would be nobody's."""
    path = filled(tmp_path / "m", {"a": "old", "b": "old"})
    new = filled(tmp_path / "new", {"a": "new", "b": "new"})
    expected = whole_digest(new, sha256_file)
    read: list[str] = []
    real = module.Memo.hash

    def swapping(self: module.Memo, file: Path, progress: object = None) -> object:
        found = real(self, file)
        read.append(file.name)
        if len(read) == 1:
            path.rename(tmp_path / "aside")
            new.rename(path)
        return found

    monkeypatch.setattr(module.Memo, "hash", swapping)
    assert records.digests.hash(path) == expected
    assert read == ["a", "b", "a", "b"]


def test_a_folder_that_is_gone_for_a_moment_is_waited_for(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "m", {"a": "1", "b": "2"})
    expected = whole_digest(path, sha256_file)
    real = module.Memo.hash
    moments: list[float] = []

    def vanishing(self: module.Memo, file: Path, progress: object = None) -> object:
        if not moments:
            path.rename(tmp_path / "aside")
        return real(self, file)

    def wait(seconds: float) -> None:
        moments.append(seconds)
        (tmp_path / "aside").rename(path)

    monkeypatch.setattr(module.Memo, "hash", vanishing)
    monkeypatch.setattr(module.time, "sleep", wait)
    assert records.digests.hash(path) == expected
    assert len(moments) == 1


def test_a_folder_with_a_file_that_cannot_be_read_is_an_error_at_once(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "m", {"a": "1"})

    def refuse(self: module.Memo, file: Path, progress: object = None) -> object:
        raise InputError("input-unreadable", "cannot be read", where=str(file))

    monkeypatch.setattr(module.Memo, "hash", refuse)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: pytest.fail("it waited"))
    with pytest.raises(InputError):
        records.digests.hash(path)


def test_an_input_folder_is_held_to_what_counted_of_it(records: Records, tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "m")
    source = identify(folder, None, None, records.digests, read=True)

    (folder / "new.txt").write_text("what came later was not read")
    records.hold(source)
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError) as caught:
        records.hold(source)

    assert (caught.value.code, caught.value.where) == ("input-changed", str(folder))
