"""What users read: every message of the readers, whole."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from lorapipe.errors import InputError
from lorapipe.formats.files import open_tensors

AGAIN = "the file is damaged: copy or download it again"
MAKER = "the program that wrote it is at fault"
DTYPES = "F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, U64, U32, U16, U8, BOOL"
ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def header(value: object, data: int = 4, claimed: int | None = None) -> bytes:
    raw = value.encode() if isinstance(value, str) else json.dumps(value).encode()
    return struct.pack("<Q", claimed or len(raw)) + raw + bytes(data)


def changed(**fields: object) -> dict[str, object]:
    return {"a": {**ENTRY, **fields}}


SAFETENSORS = {
    "safetensors-too-short": (b"12345", f"has 5 bytes: too short for a safetensors file - {AGAIN}"),
    "safetensors-header-too-large": (
        header("", claimed=100_000_001),
        (
            "claims a header of 100000001 bytes; the format allows 100000000 - "
            "this is not a safetensors file, or it is damaged"
        ),
    ),
    "safetensors-header-beyond-file": (
        header("{}", claimed=999),
        f"claims a header of 999 bytes but has 14 in all - {AGAIN}",
    ),
    "safetensors-not-utf8": (
        header("a")[:8] + b"\xff" + bytes(4),
        f"has a header that is not UTF-8 (byte 8) - {AGAIN}",
    ),
    "safetensors-not-json": (
        header("[" * 200_000),
        f"has a header that is not the JSON it should be: nested too deeply - {AGAIN}",
    ),
    "safetensors-not-object": (header("[]"), f"has a header that is not a JSON object - {MAKER}"),
    "safetensors-duplicate-key": (header('{"a":1,"b":2,"a":3}'), f"names 'a' twice in its header - {MAKER}"),
    "safetensors-bad-metadata": (
        header({"__metadata__": {"a": 1}}),
        f"has metadata that is not a map of text to text - {MAKER}",
    ),
    "safetensors-bad-entry": (
        header({"a": {}}),
        f"should give 'a' a dtype, a shape and data_offsets - {MAKER}",
    ),
    "safetensors-unknown-dtype": (
        header(changed(dtype="F31")),
        f"gives 'a' the dtype 'F31' - known are {DTYPES}",
    ),
    "safetensors-bad-shape": (
        header(changed(shape=[-1])),
        f"has a shape of 'a' that is not a list of sizes - {MAKER}",
    ),
    "safetensors-bad-offsets": (
        header(changed(data_offsets=[4, 0])),
        f"has data_offsets of 'a' in the wrong order - {MAKER}",
    ),
    "safetensors-size-mismatch": (
        header(changed(shape=[2])),
        f"gives 'a' 4 bytes, but F32 [2] takes 8 - {MAKER}",
    ),
    "safetensors-overlap": (header({"a": ENTRY, "b": ENTRY}), f"has 'b' overlap 'a' - {MAKER}"),
    "safetensors-hole": (
        header(changed(data_offsets=[2, 6]), 6),
        f"has 2 bytes between the header and 'a' - {MAKER}",
    ),
    "safetensors-truncated": (
        header(changed(), 3),
        f"is cut short: it has 3 of its 4 bytes of data - {AGAIN}",
    ),
    "safetensors-trailing-data": (header(changed(), 9), f"has 5 bytes that belong to no tensor - {AGAIN}"),
    "input-html": (
        b"<!DOCTYPE html><html>",
        "is a web page, not weights - download the file itself; that may need a login",
    ),
    "input-lfs-pointer": (
        b"version https://git-lfs.github.com/spec/v1\n",
        "is a git-lfs pointer, not weights - run: git lfs pull",
    ),
    "input-other-format": (
        b"GGUF" + bytes(20),
        ("is a GGUF file, not a safetensors file - GGUF is not supported; use the safetensors release"),
    ),
}


@pytest.mark.parametrize("code", SAFETENSORS)
def test_a_safetensors_message_says_what_and_what_to_do(tmp_path: Path, code: str) -> None:
    content, text = SAFETENSORS[code]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_tensors(path)
    assert (caught.value.code, str(caught.value)) == (code, f"{path}: error: {text}")


TORCH = {
    "torch-unknown-format": (bytes(64), f"is not a file that torch.save has written - {AGAIN}"),
    "zip-malformed": (
        b"PK\x03\x04" + bytes(64),
        (
            "is a damaged zip archive: it has no directory at its end - "
            "the file is damaged or cut short: copy or download it again"
        ),
    ),
    "input-other-format": (
        b"\x80\x02}q\x00.",
        "is a bare pickle, not a torch file - convert it to safetensors with a tool you trust",
    ),
}


@pytest.mark.parametrize("code", TORCH)
def test_a_torch_message_says_what_and_what_to_do(tmp_path: Path, code: str) -> None:
    content, text = TORCH[code]
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_tensors(path)
    assert (caught.value.code, str(caught.value)) == (code, f"{path}: error: {text}")


def test_a_name_in_a_message_is_escaped_and_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(header({"\x1b[31m" + "x" * 500: {}}))
    with pytest.raises(InputError) as caught:
        open_tensors(path)
    assert "\x1b" not in str(caught.value)
    assert len(caught.value.message) < 200
