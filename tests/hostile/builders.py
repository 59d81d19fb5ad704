"""Bytes that no honest program writes, built by hand: a piece for each lie that a file can tell."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping

__all__ = ["ENTRY", "entry", "legacy", "safetensors", "tensor_pickle", "torch_zip"]

ENTRY: Mapping[str, object] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def safetensors(header: object, data: bytes = bytes(4), length: int | None = None) -> bytes:
    """A safetensors file; ``header`` is JSON to be, or its text or bytes; ``length`` is what it claims."""
    raw = header if isinstance(header, bytes) else header.encode() if isinstance(header, str) else None
    raw = json.dumps(header).encode() if raw is None else raw
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(**changed: object) -> dict[str, object]:
    """A header with one tensor ``a``, a field of it changed."""
    return {"a": {**ENTRY, **changed}}


def tensor_pickle(
    *,
    key: str = "0",
    elements: int = 4,
    offset: int = 0,
    shape: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    storage: str = "torch\nFloatStorage",
    tail: bytes = b"",
    legacy: bool = False,
) -> bytes:
    """The pickle of ``{"a": tensor}`` by opcodes; ``tail`` goes before the end of the dict."""

    def number(value: int) -> bytes:
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    reference = b"(" + text("storage") + b"c" + storage.encode() + b"\n" + text(key) + text("cpu")
    reference += number(elements) + (b"N" if legacy else b"") + b"tQ"
    view = number(offset) + numbers(shape) + numbers(stride)
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + view + b"\x89}tR"
    return b"\x80\x02}(" + text("a") + rebuilt + tail + b"u."


def torch_zip(
    description: bytes | None,
    storages: Mapping[str, bytes] = {"0": bytes(16)},
    *,
    extra: Mapping[str, bytes] = {},
    method: int = zipfile.ZIP_STORED,
    root: str = "archive/",
) -> bytes:
    """A file of ``torch.save`` with this pickle and these storages."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        if description is not None:
            archive.writestr(f"{root}data.pkl", description)
        for name, content in {**{f"data/{k}": v for k, v in storages.items()}, **extra}.items():
            archive.writestr(root + name, content)
        archive.writestr(f"{root}version", "3\n")
    return stream.getvalue()


def legacy(
    description: bytes,
    keys: object = ("0",),
    storages: bytes = struct.pack("<q", 4) + bytes(16),
    little: bool = True,
) -> bytes:
    """A file as torch before 1.6 wrote it."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": little}]
    parts = [pickle.dumps(value, 2) for value in head]
    return b"".join([*parts, description, pickle.dumps(list(keys), 2), storages])  # type: ignore[call-overload]  # lies too
