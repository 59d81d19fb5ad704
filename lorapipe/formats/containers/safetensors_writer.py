"""Writing safetensors as a stream: header first, then the data as it comes.

The header is the library's, byte for byte, but for one thing: metadata keys are
sorted. The library writes them in the order of a Rust hash map, so that ten saves of
sixteen keys are ten different files (measured; safetensors issue 584).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import IO

from lorapipe.formats.containers.output import OnBytes, Sink, TensorData, Written, in_step
from lorapipe.weights.specs import TensorSpec

__all__ = ["header_bytes", "library_order", "write_safetensors"]

# The reverse of the library's `enum Dtype`: widest first keeps each tensor aligned.
_ORDER = ("U64", "I64", "F64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16",
          "F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL")  # fmt: skip
_RANK = {dtype: rank for rank, dtype in enumerate(_ORDER)}


def library_order(specs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """The tensors in the order in which the safetensors library writes them.

    By dtype (wide to narrow, as its ``serialize`` sorts), then by name. The hashes
    ``sshs_*`` that readers compare are over a file in this order.
    """
    return dict(sorted(specs.items(), key=lambda item: (_RANK[item[1].dtype], item[0])))


def header_bytes(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """Length and header of a file with these tensors in this order.

    The JSON is compact, ``__metadata__`` first and only when there is some, padded
    with spaces so that the data begins at a multiple of 8.
    """
    header: dict[str, object] = {}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    offset = 0
    for name, spec in specs.items():
        end = offset + spec.nbytes
        header[name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_safetensors(
    stream: IO[bytes],
    specs: Mapping[str, TensorSpec],
    data: TensorData,
    metadata: Mapping[str, str] = MappingProxyType({}),
    on_bytes: OnBytes | None = None,
) -> Written:
    """Write a file to ``stream``: ``specs`` in this order, then ``data`` in the same.

    One piece of data is in memory at a time. Equal arguments give equal bytes.
    Raises ``OSError`` as ``stream`` does, :class:`LorapipeError` when ``data`` does
    not hold what ``specs`` says.
    """
    sink = Sink(stream, on_bytes)
    sink.write(header_bytes(specs, metadata))
    for name, pieces in in_step(specs, data):
        for _ in sink.tensor(name, specs[name], pieces):
            pass
    return sink.written()
