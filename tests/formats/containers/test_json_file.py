"""Small JSON files of strangers: read whole, or refused by name."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from lorapipe.errors import InputError
from lorapipe.formats.containers.json_file import read_object


def test_an_object_is_read_with_any_text_in_it(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"r": 8, "é": [1.5, null, {"deep": true}]}', encoding="utf-8")
    assert read_object(path, 1000, "config") == {"r": 8, "é": [1.5, None, {"deep": True}]}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "config-not-json"),
        (b"[1]", "config-not-json"),
        (b'"text"', "config-not-json"),
        (b"{", "config-not-json"),
        (b'{"a": NaN}', "config-not-json"),
        (b'{"a": 1, "a": 2}', "config-not-json"),
        (b'{"a": {"b": 1, "b": 2}}', "config-not-json"),
        (b"\xff\xfe{}", "config-not-json"),
        (b'{"a":' * 100_000, "config-not-json"),
        (b"<html></html>", "config-not-json"),
        (b"version https://git-lfs.github.com/spec/v1\n", "config-not-json"),
        (b'{"a": "' + b"x" * 1_000_000 + b'"}', "config-too-large"),
    ],
)
def test_what_is_no_small_json_object_is_refused_by_name(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_object(path, 900_000, "config")
    assert (caught.value.code, caught.value.where) == (code, str(path))
    assert caught.value.message.startswith("x.json ")  # a folder's error stands at the folder
    assert len(str(caught.value)) < 600


def test_the_key_that_stands_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"r": 8, "lora_alpha": 16, "r": 4}')
    with pytest.raises(InputError, match="'r' stands twice"):
        read_object(path, 1000, "config")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_object(tmp_path, 1000, "config")
    assert caught.value.code == "input-is-folder"


def test_a_bomb_of_empty_objects_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'{"a":[' + b"{}," * 3_000_000 + b"1]}")
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            read_object(path, 64 << 20, "index")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.message == "x.json is not one to read: it has more than 2000000 values"
