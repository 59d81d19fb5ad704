"""Writing torch's zip format as a stream, without torch and without the tensors in memory.

The archive's root is always ``archive`` (torch.save names it after the file, so that a renamed file
has other bytes), the pickle is a flat dict of contiguous tensors, each with its own storage.
``torch.load(weights_only=True)`` reads it, mapped or not. The format has no place for metadata.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import IO

from lorapipe.formats.containers.output import OnBytes, Sink, TensorData, Written, in_step
from lorapipe.formats.containers.zip_writer import ZipStream
from lorapipe.weights.specs import TensorSpec

__all__ = ["write_pickle"]

_STORAGES = {
    "F64": "DoubleStorage", "F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage",
    "I64": "LongStorage", "I32": "IntStorage", "I16": "ShortStorage", "I8": "CharStorage",
    "U8": "ByteStorage", "BOOL": "BoolStorage",
}  # fmt: skip
# Younger dtypes have no class of storage: untyped bytes, and the dtype beside them.
_UNTYPED = {
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "U64": "uint64", "U32": "uint32", "U16": "uint16",
}  # fmt: skip


def write_pickle(
    stream: IO[bytes],
    specs: Mapping[str, TensorSpec],
    data: TensorData,
    metadata: Mapping[str, str] = MappingProxyType({}),  # noqa: ARG001  # one signature for all writers
    on_bytes: OnBytes | None = None,
) -> Written:
    """Write a torch file to ``stream``; arguments as of ``write_safetensors``.

    ``metadata`` is left out: a pickle can carry none that a loader would look at.
    Equal arguments give equal bytes. Raises ``OSError`` as ``stream`` does.
    """
    sink = Sink(stream, on_bytes)
    archive = ZipStream(sink)
    archive.add("archive/data.pkl", _describe(specs))
    archive.add("archive/byteorder", b"little")
    for index, (name, pieces) in enumerate(in_step(specs, data)):
        archive.add_tensor(f"archive/data/{index}", name, specs[name], pieces)
    archive.add("archive/version", b"3\n")
    archive.finish()
    return sink.written()


def _describe(specs: Mapping[str, TensorSpec]) -> bytes:
    """The pickle, protocol 2. Python's pickler would make it depend on which strings are one object."""
    parts = [b"\x80\x02}("]
    for index, (name, spec) in enumerate(specs.items()):
        parts += [_text(name), *_tensor(str(index), spec)]
    return b"".join([*parts, b"u."])


def _tensor(key: str, spec: TensorSpec) -> list[bytes]:
    untyped = _UNTYPED.get(spec.dtype)
    if untyped is None:
        rebuild, storage, elements = "_rebuild_tensor_v2", _name("torch", _STORAGES[spec.dtype]), spec.size
    else:
        rebuild, storage, elements = (
            "_rebuild_tensor_v3",
            _name("torch.storage", "UntypedStorage"),
            spec.nbytes,
        )
    reference = [b"(", _text("storage"), storage, _text(key), _text("cpu"), _int(elements), b"tQ"]
    view = [_int(0), _ints(spec.shape), _ints(_strides(spec.shape))]
    hooks = [_name("collections", "OrderedDict"), b")R"]
    dtype = [] if untyped is None else [_name("torch", untyped)]
    return [_name("torch._utils", rebuild), b"(", *reference, *view, b"\x89", *hooks, *dtype, b"tR"]


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _name(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    raw = text.encode("utf-8")
    return b"X" + struct.pack("<I", len(raw)) + raw


def _ints(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_int, values)) + b"t"


def _int(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(9, "little")
    return b"\x8a" + bytes([len(raw)]) + raw
