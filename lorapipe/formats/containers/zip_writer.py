"""A zip archive written as a stream: stored entries, no clock, the same bytes on every Python.

Each entry's checksum follows its data, so that nothing is written twice; its data begins at a
multiple of 64, as torch places storages for mapping. (PKWARE APPNOTE.TXT 6.3.10; the padding field
"FB" and flag 0x0808 are those of pytorch's ``caffe2/serialize/inline_container.cc``.)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from lorapipe.formats.containers.output import Buffer, Sink
from lorapipe.weights.specs import TensorSpec

__all__ = ["ZipStream"]

_ALIGN = 64
_FLAGS = 0x0808  # bit 3: sizes and checksum follow the data; bit 11: names are UTF-8
_DATE = (0, 0x21)  # 1980-01-01, the first day that the format knows
_FULL = 0xFFFFFFFF
_LIMIT = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class _Done:
    name: bytes
    offset: int
    size: int
    crc: int


class ZipStream:
    """Entries one after another into ``sink``; ``finish`` writes the directory."""

    __slots__ = ("_done", "_sink")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._done: list[_Done] = []

    def add(self, name: str, content: bytes) -> None:
        """An entry whose bytes are at hand."""
        start = self._begin(name, len(content))
        self._sink.write(content)
        self._end(name, start, len(content), zlib.crc32(content))

    def add_tensor(self, name: str, label: str, spec: TensorSpec, pieces: Iterable[Buffer]) -> None:
        """An entry that holds a tensor's data; ``label`` is the tensor's name, for errors."""
        start = self._begin(name, spec.nbytes)
        crc = 0
        for piece in self._sink.tensor(label, spec, pieces):
            crc = zlib.crc32(piece, crc)
        self._end(name, start, spec.nbytes, crc)

    def finish(self) -> None:
        """Write the central directory and its end records."""
        start = self._sink.position
        for done in self._done:
            self._sink.write(_central(done))
        size, count = self._sink.position - start, len(self._done)
        if start >= _LIMIT or size >= _LIMIT or count >= 0xFFFF:
            end64 = self._sink.position
            self._sink.write(
                struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
            )
            self._sink.write(struct.pack("<4sLQL", b"PK\x06\x07", 0, end64, 1))
        count, size, start = min(count, 0xFFFF), min(size, _FULL), min(start, _FULL)
        self._sink.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, start, 0))

    def _begin(self, name: str, size: int) -> int:
        start, raw = self._sink.position, name.encode("utf-8")
        large = size >= _LIMIT
        # A zip64 field here is what tells a reader that the sizes after the data have 8 bytes.
        zip64 = struct.pack("<HHQQ", 1, 16, 0, 0) if large else b""
        used = start + 30 + len(raw) + len(zip64) + 4
        extra = zip64 + struct.pack("<2sH", b"FB", -used % _ALIGN) + b"Z" * (-used % _ALIGN)
        sizes = (_FULL, _FULL) if large else (0, 0)
        version = 45 if large else 20
        self._sink.write(
            struct.pack(
                "<4s5H3L2H", b"PK\x03\x04", version, _FLAGS, 0, *_DATE, 0, *sizes, len(raw), len(extra)
            )
        )
        self._sink.write(raw + extra)
        return start

    def _end(self, name: str, start: int, size: int, crc: int) -> None:
        layout = "<4sLQQ" if size >= _LIMIT else "<4sLLL"
        self._sink.write(struct.pack(layout, b"PK\x07\x08", crc, size, size))
        self._done.append(_Done(name.encode("utf-8"), start, size, crc))


def _central(done: _Done) -> bytes:
    wide = [value for value in (done.size, done.size, done.offset) if value >= _LIMIT]
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    size, offset = min(done.size, _FULL), min(done.offset, _FULL)
    version = 45 if wide else 20
    fields = (version, version, _FLAGS, 0, *_DATE, done.crc, size, size)
    lengths = (len(done.name), len(extra), 0, 0, 0, 0, offset)
    return struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *fields, *lengths) + done.name + extra
